"""ROLL: a reward worker, `worker_cls: worldpm.integrations.roll.WorldPMRewardWorker`.

Options stand in the first mapping of `reward_manager_config`: `source`, `on_abstain`; without a
source `judge_api_url`, then WORLDPM_REWARD is read. Prompts arrive as ids of the policy's template.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from roll.distributed.executor.worker import Worker  # pyright: ignore[reportMissingImports]
from roll.distributed.scheduler.decorator import (  # pyright: ignore[reportMissingImports]
    Dispatch,
    register,
)
from roll.distributed.scheduler.protocol import DataProto  # pyright: ignore[reportMissingImports]
from roll.models.model_providers import (  # pyright: ignore[reportMissingImports]
    default_tokenizer_provider,
)

from worldpm.integrations.source import numbers_of, open_reward, reference_of
from worldpm.policy_text import split_query
from worldpm.rewards.base import Sample


class WorldPMRewardWorker(Worker):
    """Scores roll-outs; every failure is raised, never turned into a reward of 0."""

    def __init__(self, worker_config: Any) -> None:
        super().__init__(worker_config=worker_config)
        self.rank_info.dp_rank = self.rank_info.rank
        self.rank_info.dp_size = self.rank_info.world_size
        self.tokenizer = default_tokenizer_provider(model_args=worker_config.model_args)
        options = _options(worker_config)
        self._reward = open_reward(
            options.get("source") or getattr(worker_config, "judge_api_url", None)
        )
        self._on_abstain = options.get("on_abstain")

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def initialize(self, pipeline_config: Any) -> None:
        """Nothing to prepare: the model is behind the server."""

    @register(dispatch_mode=Dispatch.DP_MP_COMPUTE, clear_cache=False)
    def compute_rewards(self, data: Any) -> Any:
        """The three tensors ROLL's pipelines read, in fp32.

        `token_level_rewards` [B, L] is zero: the pipeline puts `response_level_rewards` [B] on the
        last token itself; `scores` [B] are the same numbers.

        Raises:
            InputError: a prompt is in no known policy template.
            ServerError: no score could be had.
        """
        prompts = self.tokenizer.batch_decode(data.batch["prompts"], skip_special_tokens=False)
        responses = self.tokenizer.batch_decode(data.batch["responses"], skip_special_tokens=False)
        fields = data.non_tensor_batch
        references = fields.get("ground_truth", [None] * len(prompts))
        domains = fields.get("domain", [None] * len(prompts))
        samples = [
            Sample(*split_query(prompt + response, prompt), reference_of(reference), domain)
            for prompt, response, reference, domain in zip(
                prompts, responses, references, domains, strict=True
            )
        ]
        rewards = numbers_of(self._reward.score(samples), self._on_abstain, where="ROLL")
        scores = torch.tensor(rewards, dtype=torch.float32)
        return DataProto.from_dict(
            tensors={
                "token_level_rewards": torch.zeros_like(
                    data.batch["responses"], dtype=torch.float32
                ),
                "response_level_rewards": scores,
                "scores": scores.clone(),
            }
        )


def _options(worker_config: Any) -> Mapping[str, Any]:
    manager_config = getattr(worker_config, "reward_manager_config", None) or [{}]
    return manager_config[0]
