"""Pairs of whole conversations: RLHFlow's pair data, binarized UltraFeedback, our own exports.

`chosen` and `rejected` are lists of messages that share all but the last; or the shared messages
stand in `prompt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_pipeline.sources.preference_sets.records import Dropped, make_group
from data_pipeline.sources.preference_sets.rows import Row, read_rows
from worldpm.schema import Group, Message, Pair, parse_messages


def read(path: Path, name: str) -> Iterator[Group | Dropped]:
    """One group a row.

    Raises:
        InputError: a row has no conversations.
    """
    for number, row in enumerate(read_rows(path)):
        chosen, rejected = _messages(row, "chosen"), _messages(row, "rejected")
        prompt = _messages(row, "prompt") if isinstance(row.value.get("prompt"), list) else ()
        if chosen[:-1] != rejected[:-1]:
            yield Dropped("different_prompts", row.where)
            continue
        if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
            yield Dropped("last_turn_is_not_the_assistants", row.where)
            continue
        yield make_group(
            f"{name}/{number}",
            (*prompt, *chosen[:-1]),
            (chosen[-1].content, rejected[-1].content),
            [Pair(0, 1, _margin(row))],
            row.where,
        )


def _messages(row: Row, key: str) -> tuple[Message, ...]:
    parts = [part.value for part in row.parts(key)]
    if not parts:
        row.refuse(f"{key} has no message")
    return parse_messages(parts, where=f"{row.where}, {key}")


def _margin(row: Row) -> int:
    margin = row.value.get("margin")
    return margin if isinstance(margin, int) and margin > 0 else 1
