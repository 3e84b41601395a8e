"""verl (0.7.1 and later): the reward manager `worldpm`, which sees the prompt's messages itself.

verl finds this module through the entry point `verl.plugins` of this package; then
`reward.reward_manager.name=worldpm` is enough. Options stand below `+reward.reward_kwargs.worldpm`:
`source`, `on_abstain`; without a source WORLDPM_REWARD is read.
"""

from __future__ import annotations

from typing import Any

from verl.experimental.reward_loop.reward_manager import (  # pyright: ignore[reportMissingImports]
    register,
)
from verl.experimental.reward_loop.reward_manager.base import (  # pyright: ignore[reportMissingImports]
    RewardManagerBase,
)

from worldpm.integrations.source import messages_of, numbers_of, open_reward, reference_of
from worldpm.rewards.base import Sample


@register("worldpm")
class WorldPMRewardManager(RewardManagerBase):
    """Scores each roll-out with its own prompt."""

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any = None,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        super().__init__(config, tokenizer, compute_score)
        del reward_router_address, reward_model_tokenizer  # our server is no verl router
        options = (config.reward.get("reward_kwargs") or {}).get("worldpm") or {}
        self._reward = open_reward(options.get("source"))
        self._on_abstain = options.get("on_abstain")

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of one roll-out; of several sequences the last counts, as in verl's own.

        Raises:
            InputError: the batch carries no `raw_prompt`.
            ServerError: no score could be had.
        """
        item = data[-1:][0]
        fields = item.non_tensor_batch
        prompt = messages_of(fields.get("raw_prompt"), where="raw_prompt")
        truth = (fields.get("reward_model") or {}).get("ground_truth")
        domain = fields.get("data_source")
        sample = Sample(prompt, self._response_of(item), reference_of(truth), domain)
        values = await self._reward.score_async([sample])
        [score] = numbers_of(values, self._on_abstain, where="verl")
        extra = {"score": score, "abstained": float(values[0].value is None)}
        return {"reward_score": score, "reward_extra_info": extra}

    def _response_of(self, item: Any) -> str:
        ids = item.batch["responses"]
        length = int(item.batch["attention_mask"][-ids.shape[-1] :].sum())
        return self.tokenizer.decode(ids[:length], skip_special_tokens=True)
