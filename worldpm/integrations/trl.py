"""TRL: reward functions for GRPOTrainer, RLOOTrainer and OnlineDPOTrainer.

    from worldpm.integrations.trl import reward_function
    trainer = GRPOTrainer(model, reward_funcs=reward_function("http://127.0.0.1:8000"), …)

OnlineDPOTrainer would turn None into 0 and awaits nothing: give it `online_dpo_reward_function`.
A checkpoint folder of ours may also be given to TRL itself, as `reward_funcs="RUN/model"`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from worldpm.errors import InputError
from worldpm.integrations.source import messages_of, numbers_of, open_reward, reference_of
from worldpm.rewards.base import RewardValue, Sample

RewardFunction = Callable[..., list[float | None]]
AsyncRewardFunction = Callable[..., Coroutine[Any, Any, list[float | None]]]


def reward_function(
    source: str | None = None,
    *,
    name: str = "worldpm",
    reference_column: str | None = None,
    domain_column: str | None = None,
) -> RewardFunction:
    """A reward function; abstentions are None, which TRL leaves out of the group.

    `source` is a server's URL, a reward file or a checkpoint folder. The columns of the data set
    feed rules that compare with a reference, and routers.
    """
    reward = open_reward(source)

    def score(
        prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        samples = _samples(prompts, completions, columns, reference_column, domain_column)
        return _answer(reward.score(samples), columns)

    score.__name__ = name
    return score


def async_reward_function(
    source: str | None = None,
    *,
    name: str = "worldpm",
    reference_column: str | None = None,
    domain_column: str | None = None,
) -> AsyncRewardFunction:
    """The same as a coroutine function: TRL runs several of these at once."""
    reward = open_reward(source)

    async def score(
        prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        samples = _samples(prompts, completions, columns, reference_column, domain_column)
        return _answer(await reward.score_async(samples), columns)

    score.__name__ = name
    return score


def online_dpo_reward_function(
    source: str | None = None,
    *,
    name: str = "worldpm",
    on_abstain: float | None = None,
    reference_column: str | None = None,
    domain_column: str | None = None,
) -> Callable[..., list[float]]:
    """Numbers alone; an abstention is `on_abstain`, and without it an error (`ServerError`)."""
    reward = open_reward(source)

    def score(prompts: Sequence[Any], completions: Sequence[Any], **columns: Any) -> list[float]:
        samples = _samples(prompts, completions, columns, reference_column, domain_column)
        return numbers_of(reward.score(samples), on_abstain, where="OnlineDPOTrainer")

    score.__name__ = name
    return score


def _samples(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    columns: Mapping[str, Any],
    reference_column: str | None,
    domain_column: str | None,
) -> list[Sample]:
    references = _column(columns, reference_column, len(prompts))
    domains = _column(columns, domain_column, len(prompts))
    return [
        _sample(index, prompt, completion, reference, domain)
        for index, (prompt, completion, reference, domain) in enumerate(
            zip(prompts, completions, references, domains, strict=True)
        )
    ]


def _sample(index: int, prompt: Any, completion: Any, reference: Any, domain: Any) -> Sample:
    messages = messages_of(prompt, where=f"prompt {index}")
    if isinstance(completion, str):
        response = completion
    else:
        turns = messages_of(completion, where=f"completion {index}")
        if turns[-1].role != "assistant":
            raise InputError(f"completion {index} does not end with the assistant's turn")
        # Earlier turns of a completion (tools, several steps) are what the last one answers.
        messages, response = messages + turns[:-1], turns[-1].content
    return Sample(messages, response, reference_of(reference), domain)


def _column(columns: Mapping[str, Any], name: str | None, length: int) -> Sequence[Any]:
    if name is None:
        return [None] * length
    if name not in columns:
        raise InputError(f"the data set has no column {name!r}; it has {', '.join(columns)}")
    return columns[name]


def _answer(values: Sequence[RewardValue], columns: Mapping[str, Any]) -> list[float | None]:
    log_metric = columns.get("log_metric")
    if log_metric is not None and values:
        abstained = sum(value.value is None for value in values)
        log_metric("worldpm/abstained", abstained / len(values))
    return [value.value for value in values]
