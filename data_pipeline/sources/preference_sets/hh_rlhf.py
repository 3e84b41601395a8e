"""HH-RLHF (Anthropic/hh-rlhf): two transcripts that part at the last turn of the assistant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from data_pipeline.sources.preference_sets.records import Dropped, make_group
from data_pipeline.sources.preference_sets.rows import Row, read_rows
from worldpm.schema import Group, Message, Pair

TURN = re.compile(r"\n\n(Human|Assistant): ?")
LAST_OPENING = "\n\nAssistant:"


def read(path: Path, name: str = "hh-rlhf") -> Iterator[Group | Dropped]:
    """One group a row; rows whose transcripts part before the last turn are dropped and counted.

    Raises:
        InputError: a row has no transcripts.
    """
    for number, row in enumerate(read_rows(path)):
        chosen, rejected = row.text("chosen"), row.text("rejected")
        start = chosen.rfind(LAST_OPENING)
        if start < 0 or rejected.rfind(LAST_OPENING) != start or chosen[:start] != rejected[:start]:
            yield Dropped("transcripts_part_before_the_last_turn", row.where)
            continue
        replies = [text[start + len(LAST_OPENING) :] for text in (chosen, rejected)]
        if any(TURN.search(reply) for reply in replies):
            yield Dropped("last_turn_is_not_the_assistants", row.where)
            continue
        texts = [reply.strip() for reply in replies]
        prompt = _turns(chosen[:start], row)
        yield make_group(f"{name}/{number}", prompt, texts, [Pair(0, 1)], row.where)


def _turns(transcript: str, row: Row) -> list[Message]:
    before, *pieces = TURN.split(transcript)
    if before.strip():
        row.refuse("a transcript must begin with a turn of Human or Assistant")
    return [
        Message("user" if name == "Human" else "assistant", text.strip())
        for name, text in zip(pieces[::2], pieces[1::2], strict=True)
    ]
