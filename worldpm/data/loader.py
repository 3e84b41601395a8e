"""Make the micro-batches of one rank, step by step, ahead of the training loop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from worldpm.data.order import TrainingOrder
from worldpm.data.packing import GroupLengths, PackedBatch, deal_groups, pack_groups
from worldpm.data.shards import ShardSet
from worldpm.data.token_group import Ints, TokenGroup, split_group


@dataclass(frozen=True, slots=True)
class Packing:
    """How groups become micro-batches: a rank's share and the size of its rows.

    `attention_weight` is the cost of one attended query-key pair in tokens. `split_groups` cuts a
    group over the budget into groups of fewer pairs (wrong for losses over whole groups).
    """

    token_budget: int
    rank: int = 0
    world_size: int = 1
    attention_weight: float = 0.0
    split_groups: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One rank's share of a step, and the totals of the whole step.

    `pair_ids` are those of the whole step in the order of consumption, on the main rank only.
    """

    number: int
    micro_batches: list[PackedBatch]
    num_pairs: int
    num_groups: int
    num_tokens: int
    num_attended: float
    pair_ids: list[str]

    @property
    def num_computed_tokens(self) -> int:
        """Token positions this rank computes, fillers included."""
        return sum(batch.num_tokens for batch in self.micro_batches)


class StepLoader:
    """Makes any step of the run from its number alone."""

    def __init__(self, shards: ShardSet, order: TrainingOrder, packing: Packing) -> None:
        self._shards = shards
        self._order = order
        self._packing = packing

    def load(self, number: int) -> Step:
        """Read, deal and pack step `number`."""
        groups = self._order.groups_of_step(number)
        lengths = self._shards.lengths(groups)
        units, unit_lengths = self._split_oversize(groups, lengths)
        mine = _deal(unit_lengths, self._packing)
        cache: dict[int, TokenGroup] = {}
        micro_batches = [
            pack_groups([self._unit(units[index], cache) for index in micro], is_filler=is_filler)
            for micro, is_filler in mine
        ]
        return Step(
            number=number,
            micro_batches=micro_batches,
            num_pairs=self._count_pairs(groups),
            num_groups=len(groups),
            num_tokens=int(lengths.tokens.sum()),
            num_attended=float(lengths.attended.sum()),
            pair_ids=self._pair_ids(groups) if self._packing.rank == 0 else [],
        )

    def _split_oversize(
        self, groups: Ints, lengths: GroupLengths
    ) -> tuple[list[int | TokenGroup], GroupLengths]:
        budget = self._packing.token_budget
        oversize = set(np.flatnonzero(lengths.tokens > budget).tolist())
        units: list[int | TokenGroup] = [
            group for place, group in enumerate(groups.tolist()) if place not in oversize
        ]
        if not oversize or not self._packing.split_groups:
            return list(groups.tolist()), lengths
        kept = np.asarray([place for place in range(len(groups)) if place not in oversize], int)
        parts = [
            part
            for group in self._shards.read(groups[sorted(oversize)])
            for part in split_group(group, budget)
        ]
        part_lengths = GroupLengths.of_groups(parts)
        joined = GroupLengths(
            np.concatenate([lengths.tokens[kept], part_lengths.tokens]),
            np.concatenate([lengths.attended[kept], part_lengths.attended]),
        )
        return units + list(parts), joined

    def _unit(self, unit: int | TokenGroup, cache: dict[int, TokenGroup]) -> TokenGroup:
        if isinstance(unit, TokenGroup):
            return unit
        if unit not in cache:
            cache[unit] = self._shards.read([unit])[0]
        return cache[unit]

    def _count_pairs(self, groups: Ints) -> int:
        index = self._order.index
        return int((index.pairs_before(groups + 1) - index.pairs_before(groups)).sum())

    def _pair_ids(self, groups: Ints) -> list[str]:
        return [name for group in self._shards.read(groups) for name in group.pair_ids()]


def pack_all(groups: Sequence[TokenGroup], packing: Packing) -> list[tuple[PackedBatch, list[int]]]:
    """Pack groups that are in memory: one rank's micro-batches, each with its groups' places.

    A filler's groups belong to another rank: its list is empty.
    """
    mine = _deal(GroupLengths.of_groups(groups), packing)
    return [
        (
            pack_groups([groups[index] for index in micro], is_filler=is_filler),
            [] if is_filler else micro,
        )
        for micro, is_filler in mine
    ]


def _deal(lengths: GroupLengths, packing: Packing) -> list[tuple[list[int], bool]]:
    """This rank's micro-batches, and whether each is a filler."""
    dealt = deal_groups(
        lengths,
        token_budget=packing.token_budget,
        world_size=packing.world_size,
        attention_weight=packing.attention_weight,
    )
    shortest = int(np.argmin(lengths.tokens))
    return [(micro or [shortest], not micro) for micro in dealt[packing.rank]]


class Prefetcher:
    """Steps made by a thread, in order; `next` says how long the caller had to wait."""

    def __init__(self, loader: StepLoader, first: int, last: int, depth: int) -> None:
        self._loader = loader
        self._numbers = range(first, last)
        self._queue: queue.Queue[Step | BaseException] = queue.Queue(max(1, depth))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)

    def next(self) -> tuple[Step, float]:
        """The next step, and the seconds waited for it."""
        started_s = time.perf_counter()
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item, time.perf_counter() - started_s

    def start(self) -> None:
        """Begin to read ahead."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.05)

    def _work(self) -> None:
        try:
            for number in self._numbers:
                if self._stopped.is_set():
                    return
                self._queue.put(self._loader.load(number))
        except BaseException as exc:  # noqa: BLE001  carried to the training loop and raised there
            self._queue.put(exc)


@contextmanager
def prefetch(loader: StepLoader, first: int, last: int, depth: int) -> Generator[Prefetcher]:
    """Read the steps `first` … `last`-1 ahead while the block runs."""
    prefetcher = Prefetcher(loader, first, last, depth)
    prefetcher.start()
    try:
        yield prefetcher
    finally:
        prefetcher.stop()
