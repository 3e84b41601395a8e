"""The order of training as a pure function: which groups make step t, and proof of what was used.

Step t of an epoch takes the groups whose first pair stands at [tB, (t+1)B) of the order. The first
epoch's order is the stored one; later epochs are permuted by a keyed function. Neither the number
of ranks nor the packing enters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldpm.data.token_group import Ints
from worldpm.errors import ConfigError

# Up to this many groups an epoch is permuted group by group; beyond, in blocks of 64, so that the
# permutation of 15 M pairs takes a megabyte and not a hundred.
MAX_SINGLY_PERMUTED_GROUPS = 2**20
BLOCK_GROUPS = 64
GROUPS_READ_AT_ONCE = 2**18

EMPTY_CHAIN = hashlib.sha256(b"worldpm pair chain").hexdigest()


class PairIndex:
    """Cumulative pairs of all groups in the stored order, in memory-mapped pieces."""

    def __init__(self, pieces: list[Ints]) -> None:
        self._pieces = [piece for piece in pieces if len(piece)]
        self._last = np.asarray([piece[-1] for piece in self._pieces], np.int64)
        sizes = np.asarray([len(piece) for piece in self._pieces], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return int(self._starts[-1])

    @property
    def num_pairs(self) -> int:
        """Number of pairs."""
        return int(self._last[-1]) if len(self._last) else 0

    def first_group_from(self, pair: int) -> int:
        """The first group of which no pair stands before `pair`."""
        if pair <= 0:
            return 0
        piece = int(np.searchsorted(self._last, pair))
        if piece == len(self._pieces):
            return self.num_groups
        # A group begins at or after `pair` if the groups before it hold at least `pair` pairs.
        return int(self._starts[piece] + np.searchsorted(self._pieces[piece], pair)) + 1

    def pairs_before(self, groups: Ints) -> Ints:
        """How many pairs stand before each of these groups (or before the end)."""
        previous = np.asarray(groups, np.int64) - 1
        piece = np.searchsorted(self._starts, previous, side="right") - 1
        before = np.zeros(len(previous), np.int64)
        for index in np.unique(piece[previous >= 0]):
            here = (piece == index) & (previous >= 0)
            before[here] = self._pieces[index][previous[here] - self._starts[index]]
        return before

    def max_pairs_in_group(self) -> int:
        """The largest number of pairs of one group; reads the index once, bit by bit."""
        largest, before = 0, 0
        for piece in self._pieces:
            # A piece may be the whole mapped index: no copy of it is made.
            for start in range(0, len(piece), GROUPS_READ_AT_ONCE):
                part = piece[start : start + GROUPS_READ_AT_ONCE]
                largest = max(largest, int(np.diff(part, prepend=before).max()))
                before = int(part[-1])
        return largest


@dataclass(frozen=True, slots=True)
class _Epoch:
    blocks: Ints  # block numbers in the epoch's order
    cumulative_pairs: Ints  # pairs up to and including each block, in that order


class TrainingOrder:
    """Which groups make step t, for all epochs.

    Raises:
        ConfigError: a group has more pairs than a step.
    """

    def __init__(
        self, index: PairIndex, *, pairs_per_step: int, epochs: int = 1, seed: int = 0
    ) -> None:
        largest = index.max_pairs_in_group()
        if largest > pairs_per_step:
            raise ConfigError(
                f"batch.pairs_per_step is {pairs_per_step}: a question has {largest} pairs, and "
                f"the pairs of a question stay in one step; use {largest} or more"
            )
        self.index = index
        self.pairs_per_step = pairs_per_step
        self.epochs = epochs
        self.steps_per_epoch = -(-index.num_pairs // pairs_per_step)
        self._seed = seed
        self._block_groups = 1 if index.num_groups <= MAX_SINGLY_PERMUTED_GROUPS else BLOCK_GROUPS
        self._permuted: tuple[int, _Epoch] | None = None

    @property
    def num_steps(self) -> int:
        """Steps of all epochs."""
        return self.steps_per_epoch * self.epochs

    def groups_of_step(self, step: int) -> Ints:
        """The groups of step `step` (from 0), in the order in which they are consumed."""
        epoch, position = divmod(step, self.steps_per_epoch)
        assert epoch < self.epochs, f"step {step} lies beyond the last epoch"
        first, last = position * self.pairs_per_step, (position + 1) * self.pairs_per_step
        if epoch == 0:
            return np.arange(self.index.first_group_from(first), self.index.first_group_from(last))
        return self._groups_between(self._epoch(epoch), epoch, first, last)

    def _epoch(self, epoch: int) -> _Epoch:
        if self._permuted is None or self._permuted[0] != epoch:
            num_groups, size = self.index.num_groups, self._block_groups
            starts = np.arange(0, num_groups, size)
            before = self.index.pairs_before(np.append(starts, num_groups))
            blocks = _permutation(len(starts), self._seed, epoch)
            self._permuted = (epoch, _Epoch(blocks, np.cumsum(np.diff(before)[blocks])))
        return self._permuted[1]

    def _groups_between(self, order: _Epoch, epoch: int, first: int, last: int) -> Ints:
        begin = int(np.searchsorted(order.cumulative_pairs, first, side="right"))
        end = int(np.searchsorted(order.cumulative_pairs, last)) + 1
        groups = np.concatenate(
            [self._groups_of_block(int(block), epoch) for block in order.blocks[begin:end]]
            or [np.zeros(0, np.int64)]
        )
        base = int(order.cumulative_pairs[begin - 1]) if begin else 0
        pairs = self._pairs(groups)
        position = base + np.cumsum(pairs) - pairs
        return groups[(position >= first) & (position < last)]

    def _groups_of_block(self, block: int, epoch: int) -> Ints:
        start = block * self._block_groups
        size = min(self._block_groups, self.index.num_groups - start)
        return start + _permutation(size, self._seed, epoch * 2**40 + block)

    def _pairs(self, groups: Ints) -> Ints:
        return self.index.pairs_before(groups + 1) - self.index.pairs_before(groups)


def _permutation(size: int, seed: int, stream: int) -> Ints:
    """A permutation of 0 … size-1 that depends on the arguments alone (sorted keyed hashes)."""
    if size == 1:
        return np.zeros(1, np.int64)
    digest = hashlib.sha256(f"{seed}:{stream}".encode()).digest()
    key = np.uint64(int.from_bytes(digest[:8], "little"))
    return np.argsort(_mix(np.arange(size, dtype=np.uint64) ^ key), kind="stable")


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words.
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def extend_chain(chain: str, pair_ids: Iterable[str]) -> str:
    """Append consumed pairs to a hash chain: SHA-256 over the chain so far and the pair's name.

    Two runs have the same chain exactly if they consumed the same pairs in the same order.
    """
    for pair_id in pair_ids:
        chain = hashlib.sha256(f"{chain} {pair_id}".encode()).hexdigest()
    return chain
