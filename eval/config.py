"""The configuration of `worldpm eval`: which benchmarks, whose scores, where to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from worldpm.config import ConfigModel


class ModelSettings(ConfigModel):
    """How a checkpoint is run; `max_tokens` null means what the model was trained with."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_tokens: int | None = Field(default=None, ge=64)
    token_budget: int = Field(default=16384, ge=64)


class ShardSettings(ConfigModel):
    """Which part this process scores; null means what torchrun says, or all of it."""

    rank: int | None = Field(default=None, ge=0)
    world_size: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> ShardSettings:
        if (self.rank is None) != (self.world_size is None):
            raise ValueError("shard.rank and shard.world_size go together: set both or neither")
        if self.rank is not None and self.world_size is not None and self.rank >= self.world_size:
            raise ValueError(f"rank {self.rank} does not exist among {self.world_size}: from 0")
        return self


class ProbeSettings(ConfigModel):
    """Live checks of the scorer on a sample of every benchmark; 0 items means none."""

    num_items: int = Field(default=32, ge=0)
    tolerance: float = Field(default=1e-4, gt=0)


class EvalConfig(ConfigModel):
    """One evaluation: exactly one of `model`, `server` and `scores` says where scores come from."""

    suite: str
    benchmarks: tuple[str, ...] = Field(min_length=1)
    data_dir: Path
    output_dir: Path
    model: Path | None = None
    server: str | None = None
    scores: Path | None = None
    run: ModelSettings = ModelSettings()
    shard: ShardSettings = ShardSettings()
    probes: ProbeSettings = ProbeSettings()
    num_bootstrap: int = Field(default=1000, ge=100)
    seed: int = 0
    allow_missing: bool = False
    published: tuple[Path, ...] = ()

    @model_validator(mode="after")
    def _names_once(self) -> EvalConfig:
        repeated = {name for name in self.benchmarks if self.benchmarks.count(name) > 1}
        if repeated:
            raise ValueError(f"benchmarks names {', '.join(sorted(repeated))} more than once")
        return self
