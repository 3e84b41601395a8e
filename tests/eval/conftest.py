"""Scorers without a model, and made-up benchmark files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from eval.benchmark import Item, ScoredItem, user
from worldpm.schema import Group, Pair
from worldpm.scoring import GroupScores


@dataclass
class FakeScorer:
    """Scores a response by a function of prompt and response; remembers what it was asked."""

    function: Callable[[str, str], float] = lambda prompt, response: float(len(response))
    max_characters: int | None = None
    groups: list[Group] = field(default_factory=list)

    def score(self, groups: Sequence[Group]) -> list[GroupScores]:
        self.groups += groups
        return [self._score(group) for group in groups]

    def _score(self, group: Group) -> GroupScores:
        prompt = group.prompt[-1].content
        cut = 0
        if self.max_characters is not None:
            room = self.max_characters - max(len(text) for text in group.responses)
            cut = max(0, len(prompt) - room)
        return GroupScores(
            group.group_id,
            # What was cut of the prompt moves the score, as it would a model's.
            tuple(self.function(prompt, text) - cut for text in group.responses),
            len(prompt) - cut,
            tuple(len(text) for text in group.responses),
            cut,
            (0,) * len(group.responses),
        )


@pytest.fixture
def length_scorer() -> FakeScorer:
    """Prefers the longer response."""
    return FakeScorer()


@pytest.fixture
def make_scorer() -> type[FakeScorer]:
    """Make a scorer from a function."""
    return FakeScorer


def make_item(item_id: str, num_responses: int = 2, **fields: Any) -> Item:
    """An item with one pair, the first response over the second."""
    values: dict[str, Any] = {
        "subset": "all",
        "prompt": user(f"question {item_id}"),
        "responses": tuple(f"answer {index} " + "x" * index for index in range(num_responses)),
        "pairs": (Pair(0, 1),),
        "where": f"made-up:{item_id}",
    }
    return Item(item_id=item_id, **{**values, **fields})


@pytest.fixture(name="make_item")
def make_item_fixture() -> Callable[..., Item]:
    """Make items."""
    return make_item


@pytest.fixture
def make_scored() -> Callable[..., list[ScoredItem]]:
    """Make items of given scores, one list of scores an item."""

    def make(*scores: Sequence[float], **fields: Any) -> list[ScoredItem]:
        return [
            ScoredItem(make_item(str(index), len(one), **fields), tuple(map(float, one)))
            for index, one in enumerate(scores)
        ]

    return make


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Write JSON lines below the test's folder."""

    def write(name: str, rows: Sequence[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def write_array(tmp_path: Path) -> Callable[..., Path]:
    """Write one JSON array, one row a line."""

    def write(name: str, rows: Sequence[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
        return path

    return write
