"""verl: an asynchronous reward function, for `reward.custom_reward_function.path=pkg://` +
`worldpm.integrations.verl` (up to 0.7.0 `custom_reward_function.path` with this file's path).

verl passes no prompt to a reward function: the data must carry the messages in `extra_info`. The
reward manager of `worldpm.integrations.verl_manager` needs no such column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldpm.errors import InputError
from worldpm.integrations.source import messages_of, numbers_of, open_reward, reference_of
from worldpm.rewards.base import Sample

# Looked for in this order where no key is named.
PROMPT_KEYS = ("raw_prompt", "prompt", "messages")


async def compute_score(
    data_source: Any,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    source: str | None = None,
    prompt_key: str | None = None,
    on_abstain: float | None = None,
    **_: Any,
) -> dict[str, float]:
    """The score of one response, and whether the reward abstained (1.0) and `on_abstain` stands in.

    `source`, `prompt_key` and `on_abstain` are given as `reward_kwargs`; verl's router and
    tokenizer arguments are not needed.

    Raises:
        InputError: `extra_info` carries no prompt.
        ServerError: no score could be had.
    """
    prompt = _prompt_of(extra_info or {}, prompt_key)
    domain = data_source if isinstance(data_source, str) else None
    sample = Sample(prompt, solution_str, reference_of(ground_truth), domain)
    values = await open_reward(source).score_async([sample])
    [score] = numbers_of(values, on_abstain, where="verl")
    return {"score": score, "abstained": float(values[0].value is None)}


def _prompt_of(extra_info: Mapping[str, Any], key: str | None) -> Any:
    keys = PROMPT_KEYS if key is None else (key,)
    found = next((name for name in keys if extra_info.get(name) is not None), None)
    if found is None:
        raise InputError(
            f"extra_info has none of {', '.join(keys)}: put the prompt's messages there when the "
            "data is prepared, or use the reward manager `worldpm`"
        )
    return messages_of(extra_info[found], where=f"extra_info[{found!r}]")
