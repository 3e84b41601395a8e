"""What a benchmark is: items with scored responses, and the rules that turn scores into a number.

A `Source` is what its authors publish: one loader, items that are scored once. A `Benchmark` is a
number people quote from it: a selection of those items, a group, the official rule and the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worldpm.schema import Group, Message, Pair, TestSetKind

Scores = Sequence[float]
PairSelection = Callable[["Item"], tuple[Pair, ...]]
Fidelity = Literal["as the paper", "substitute", "not in the paper"]


@dataclass(frozen=True, slots=True)
class Item:
    """One benchmark item: a response group with its id, its subset and where it was read.

    `labels` holds what a rule needs beyond the pairs (an official label, ratings, model names).
    """

    item_id: str
    subset: str
    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    pairs: tuple[Pair, ...]
    where: str
    labels: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_group(self, pairs: tuple[Pair, ...] | None = None) -> Group:
        """The same item as the project's one record; the group's id is the item's."""
        return Group(
            self.item_id, self.prompt, self.responses, self.pairs if pairs is None else pairs
        )


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """An item and the scores of its responses, in their order."""

    item: Item
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How much of an item was right: `credit` of `size` (1, or its number of pairs)."""

    item_id: str
    subset: str
    credit: float
    size: float = 1.0


@dataclass(frozen=True, slots=True)
class Section:
    """Subsets that are averaged to one number, which counts `weight` in the overall mean.

    A name of a subset stands for all that lie under it.

    `counts` weighs the subsets by fixed numbers (RewardBench's published prompt counts); without
    it every item counts the same.
    """

    name: str
    subsets: tuple[str, ...]
    weight: float = 1.0
    counts: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """One rule: which pairs, what an item earns for which scores, and how items are averaged.

    Without `sections` every item counts alike (micro average). `pairs` is what the Bradley-Terry
    loss is taken over; `chance` is what an item earns under random scores.
    """

    rule: str
    pairs: PairSelection
    outcomes: Callable[[Sequence[ScoredItem]], list[Outcome]]
    sections: tuple[Section, ...] = ()
    chance: Callable[[Item], float] = lambda item: 0.5
    extras: Callable[[Sequence[ScoredItem]], dict[str, Any]] = lambda scored: {}


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A number people quote: selected items of a source under the official and the paper's rule.

    `paper_set` names the set of the paper that this is, or stands in for; `num_items` is the
    published size, where one is known, so that a part is never taken for the whole.
    """

    name: str
    kind: TestSetKind
    official: Protocol
    worldpm: Protocol
    description: str
    subsets: tuple[str, ...] = ()
    fidelity: Fidelity = "not in the paper"
    paper_set: str | None = None
    num_items: int | None = None
    caveats: tuple[str, ...] = ()

    def selects(self, item: Item) -> bool:
        """Whether the item belongs to this benchmark: by subset, and only if a rule uses it."""
        if self.subsets and not lies_under(item.subset, self.subsets):
            return False
        return bool(self.official.pairs(item) or self.worldpm.pairs(item))


@dataclass(frozen=True, slots=True)
class Source:
    """What its authors publish: a loader for the first of `folders` and `name` that exists.

    With `marker_files` a folder counts only if it holds one of them. `item_ids` and
    `response_order` tell people how to write a file of scores for it.
    """

    name: str
    load: Callable[[Path], Iterator[Item]]
    benchmarks: tuple[Benchmark, ...]
    licence: str
    origin: str
    item_ids: str
    response_order: str
    hub_id: str | None = None
    folders: tuple[str, ...] = ()
    marker_files: tuple[str, ...] = ()

    def folder(self, data_dir: Path) -> Path | None:
        """Where the source lies below `data_dir`, or None."""
        candidates = [data_dir / name for name in (*self.folders, self.name)]
        return next((path for path in candidates if self._is_here(path)), None)

    def _is_here(self, path: Path) -> bool:
        markers = self.marker_files
        return path.is_dir() and (not markers or any((path / name).is_file() for name in markers))


def lies_under(subset: str, names: Sequence[str]) -> bool:
    """Whether a subset, `Pairwise_set/Helpfulness/Chat`, is one of the names or a part of one."""
    return any(subset == name or subset.startswith(f"{name}/") for name in names)


def user(text: str) -> tuple[Message, ...]:
    """A prompt of one user turn."""
    return (Message("user", text),)


FIRST_BETTER = (Pair(0, 1),)
SECOND_BETTER = (Pair(1, 0),)
