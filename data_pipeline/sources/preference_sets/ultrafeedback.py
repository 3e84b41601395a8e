"""UltraFeedback (openbmb/UltraFeedback): four responses a prompt, rated in four aspects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from data_pipeline.sources.preference_sets.records import Dropped, disjoint_pairs, make_group
from data_pipeline.sources.preference_sets.rows import Row, read_rows
from worldpm.schema import Group, Message

Rating = Literal["fine-grained_score", "overall_score"]

# The fine-grained score is a mean of four whole ratings, so that margins count rating points.
SCALES: dict[Rating, float] = {"fine-grained_score": 4, "overall_score": 1}


def read(path: Path, rating: Rating, seed: int) -> Iterator[Group | Dropped]:
    """One group a prompt, with pairs that share no response (the paper: two of four responses).

    `overall_score` was wrong for thousands of responses in early copies of the set (a 1 read as
    10); the mean of the four aspects was not.

    Raises:
        InputError: a row lacks a field.
    """
    for number, row in enumerate(read_rows(path)):
        completions = row.parts("completions")
        rated = [part for part in completions if part.value.get(rating) is not None]
        if len(rated) < 2:
            yield Dropped("fewer_than_two_rated_responses", row.where)
            continue
        group_id = f"ultrafeedback/{number}"
        ratings = [part.number(rating) for part in rated]
        pairs = disjoint_pairs(ratings, group_id, seed, SCALES[rating])
        yield make_group(group_id, _prompt(row), [_text(part) for part in rated], pairs, row.where)


def _prompt(row: Row) -> list[Message]:
    return [Message("user", row.text("instruction"))]


def _text(completion: Row) -> str:
    return completion.text("response")
