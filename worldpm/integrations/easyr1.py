"""EasyR1: `worker.reward.reward_function=…/worldpm/integrations/easyr1.py:main`, and its data.

EasyR1 hands a reward function neither prompt nor extra columns, only the answer column: `prepare`
writes the messages into it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worldpm.errors import InputError
from worldpm.group_files import read_group_file
from worldpm.integrations.source import messages_of, numbers_of, open_reward, reference_of
from worldpm.rewards.base import Sample
from worldpm.schema import Message

REWARD_NAME = "worldpm"
REWARD_TYPE = "batch"


def main(
    reward_inputs: Sequence[Mapping[str, Any]],
    *,
    source: str | None = None,
    on_abstain: float | None = None,
) -> list[dict[str, float]]:
    """The reward `overall` of every response, with the metrics EasyR1 logs.

    Raises:
        InputError: an answer was not written by `prepare`.
        ServerError: no score could be had.
    """
    samples = [_sample(index, item) for index, item in enumerate(reward_inputs)]
    values = open_reward(source).score(samples)
    rewards = numbers_of(values, on_abstain, where="EasyR1")
    # Every response must have the same metrics.
    return [
        {"overall": reward, "worldpm": reward, "abstained": float(value.value is None)}
        for reward, value in zip(rewards, values, strict=True)
    ]


def to_answer(messages: Sequence[Message], reference: str | None = None) -> str:
    """The text of the answer column: the prompt's messages, and the reference if there is one."""
    turns = [{"role": turn.role, "content": turn.content} for turn in messages]
    return json.dumps({"messages": turns, "answer": reference}, ensure_ascii=False)


def prepare(groups_path: Path, output: Path) -> int:
    """Write EasyR1's data set of the prompts of a group file; returns the number of prompts.

    `output` is a Parquet file with the columns `prompt` and `answer`.

    Raises:
        InputError: a prompt is a conversation: EasyR1 asks single questions.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[str]] = {"prompt": [], "answer": []}
    for group in read_group_file(groups_path):
        users = [turn for turn in group.prompt if turn.role == "user"]
        if len(users) != 1 or len(group.prompt) != 1:
            raise InputError(
                f"group {group.group_id}: EasyR1 asks one user message, this prompt has "
                f"{len(group.prompt)} turns"
            )
        columns["prompt"].append(users[0].content)
        columns["answer"].append(to_answer(group.prompt))
    pq.write_table(pa.table(columns), output)
    return len(columns["prompt"])


def _sample(index: int, item: Mapping[str, Any]) -> Sample:
    where = f"reward input {index}"
    truth = item["ground_truth"]
    try:
        answer = json.loads(truth) if isinstance(truth, str) else truth
        messages = messages_of(answer["messages"], where=where)
    except (json.JSONDecodeError, KeyError, TypeError) as exc:
        raise InputError(
            f"{where}: the answer column holds no messages; prepare the data with "
            "worldpm.integrations.easyr1.prepare"
        ) from exc
    return Sample(messages, item["response"], reference_of(answer.get("answer")))
