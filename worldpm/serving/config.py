"""What a scoring server may be told: address, model, limits, queue, policy templates."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from worldpm.config import ConfigModel
from worldpm.policy_text import PolicyTemplate


class LimitsConfig(ConfigModel):
    """What one request may hold; more is refused with 413 before any work is done."""

    max_body_bytes: PositiveInt = 16 * 1024 * 1024
    max_groups: PositiveInt = 1024
    max_responses: PositiveInt = 4096  # over all groups of a request
    max_text_chars: PositiveInt = 1_000_000  # of one message or response
    max_request_tokens: PositiveInt = 4_000_000  # before anything is cut
    body_timeout_s: PositiveFloat = 30.0


class QueueConfig(ConfigModel):
    """How much may wait, for how long, and how much is scored at once."""

    max_waiting_tokens: PositiveInt = 2_000_000
    max_waiting_requests: PositiveInt = 4096
    max_body_bytes_in_flight: PositiveInt = 256 * 1024 * 1024
    batch_tokens: PositiveInt = 16_384
    # After a batch that served several requests the next one waits this long for its companions;
    # a lone client never waits.
    gather_ms: float = Field(default=3.0, ge=0)
    request_timeout_s: PositiveFloat = 120.0
    shutdown_timeout_s: PositiveInt = 120


class PolicyTextConfig(ConfigModel):
    """How the text of the policy's template is read (OpenRLHF, ROLL, slime)."""

    template: PolicyTemplate | None = None  # None: detected in every text
    drop_injected_system: bool = True


class JobsConfig(ConfigModel):
    """The results kept for ROLL's submit and result pair."""

    max_jobs: PositiveInt = 100_000
    keep_s: PositiveFloat = 600.0


class ServerConfig(ConfigModel):
    """A scoring server; every field has a default, so that a checkpoint is enough."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_tokens: PositiveInt | None = None  # None: the model's own context
    model_name: str | None = None  # None: the checkpoint folder's name
    api_key_file: Path | None = None
    # "normalized" answers (score - mean) / std of the checkpoint's calibration.
    scores: Literal["raw", "normalized"] = "raw"
    limits: LimitsConfig = LimitsConfig()
    queue: QueueConfig = QueueConfig()
    policy_text: PolicyTextConfig = PolicyTextConfig()
    jobs: JobsConfig = JobsConfig()
