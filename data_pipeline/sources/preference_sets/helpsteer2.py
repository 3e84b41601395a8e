"""HelpSteer2 (nvidia/HelpSteer2): two responses a prompt, rated 0 to 4 in five dimensions.

The paper uses helpfulness alone. Two rows in a row share a prompt; a longer conversation stands in
`prompt` as one text whose turns are parted by a token and the speaker's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from data_pipeline.sources.preference_sets.records import Dropped, make_group, prefer
from data_pipeline.sources.preference_sets.rows import Row, read_rows
from worldpm.schema import Group, Message

Dimension = Literal["helpfulness", "correctness", "coherence", "complexity", "verbosity"]

TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def read(path: Path, dimension: Dimension) -> Iterator[Group | Dropped]:
    """One group for two rows.

    Raises:
        InputError: a row stands alone or lacks a field.
    """
    first: Row | None = None
    number = 0
    for row in read_rows(path):
        if first is None:
            first = row
            continue
        if row.text("prompt") != first.text("prompt"):
            row.refuse("the prompt differs from the row before: two rows share a prompt")
        ratings = (first.number(dimension), row.number(dimension))
        pair = prefer(ratings, 0, 1)
        responses = (first.text("response"), row.text("response"))
        prompt = _turns(row.text("prompt"))
        yield make_group(
            f"helpsteer2/{number}", prompt, responses, [pair] if pair else [], first.where
        )
        number += 1
        first = None
    if first is not None:
        first.refuse("this row has no partner: two rows in a row share a prompt")


def _turns(prompt: str) -> list[Message]:
    first, *rest = TURN.split(prompt)
    turns = [Message("user", first)]
    for name, text in zip(rest[::2], rest[1::2], strict=True):
        if text:  # a conversation may end with the opening of the turn to be written
            turns.append(Message("user" if name == "User" else "assistant", text))
    return turns
