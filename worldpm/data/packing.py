"""Lay response groups out as one flat row of tokens, and deal groups to micro-batches.

`[prompt][response 1]…[response K]` of one group follow each other, groups too: no padding, and a
prompt stands once for all its responses. Which group goes to which micro-batch of which rank is
decided from lengths alone, so all ranks decide alike without talking.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldpm.data.token_group import Floats, Ints, TokenGroup

# T tokens, S segments, R responses, P pairs, G groups.


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """One micro-batch as arrays.

    `input_ids`, `position_ids` [T]: positions of every response continue its prompt's.
    `segments` [S, 4] rows (start, end, prefix_start, prefix_end), ends exclusive: a prompt has an
    empty prefix, a response's prefix is its prompt. `reward_index` [R]: the last position of each
    response. `chosen`, `rejected` [P] index the R responses. `group_offsets` [G+1]: responses
    before each group. `scores` [R].
    """

    input_ids: Ints
    position_ids: Ints
    segments: Ints
    reward_index: Ints
    chosen: Ints
    rejected: Ints
    margin: Ints
    weight: Floats
    scores: Ints
    group_offsets: Ints
    group_ids: tuple[str, ...]
    is_filler: bool = False

    @property
    def num_tokens(self) -> int:
        """Tokens in the row; a filler counts, for it is computed."""
        return len(self.input_ids)

    @property
    def num_pairs(self) -> int:
        """Pairs that carry loss: none in a filler."""
        return 0 if self.is_filler else len(self.chosen)


def pack_groups(groups: Sequence[TokenGroup], *, is_filler: bool = False) -> PackedBatch:
    """Concatenate groups into one row.

    A filler is computed so that all ranks run equally many passes; its loss counts nothing.
    """
    assert groups, "a micro-batch holds at least one group"
    tokens: list[NDArray[np.int32]] = []
    positions: list[Ints] = []
    segments: list[tuple[int, int, int, int]] = []
    start = 0
    for group in groups:
        prompt_length = len(group.prompt_ids)
        prompt_start = start
        tokens.append(group.prompt_ids)
        positions.append(np.arange(prompt_length))
        start += prompt_length
        segments.append((prompt_start, start, prompt_start, prompt_start))
        for ids in group.response_ids:
            tokens.append(ids)
            positions.append(np.arange(prompt_length, prompt_length + len(ids)))
            segments.append((start, start + len(ids), prompt_start, prompt_start + prompt_length))
            start += len(ids)
    counts = [len(group.response_ids) for group in groups]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return PackedBatch(
        input_ids=np.concatenate(tokens).astype(np.int64),
        position_ids=np.concatenate(positions).astype(np.int64),
        segments=np.asarray(segments, np.int64),
        reward_index=_reward_index(groups),
        chosen=_concatenate_shifted([group.chosen for group in groups], offsets),
        rejected=_concatenate_shifted([group.rejected for group in groups], offsets),
        margin=np.concatenate([group.margin for group in groups]),
        weight=np.concatenate([group.weight for group in groups]),
        scores=np.concatenate([group.scores for group in groups]),
        group_offsets=offsets,
        group_ids=tuple(group.group_id for group in groups),
        is_filler=is_filler,
    )


def _reward_index(groups: Sequence[TokenGroup]) -> Ints:
    ends: list[int] = []
    start = 0
    for group in groups:
        start += len(group.prompt_ids)
        for ids in group.response_ids:
            start += len(ids)
            ends.append(start - 1)
    return np.asarray(ends, np.int64)


def _concatenate_shifted(arrays: Iterable[Ints], offsets: Ints) -> Ints:
    shifted = [array + offset for array, offset in zip(arrays, offsets[:-1], strict=True)]
    return np.concatenate(shifted).astype(np.int64)


@dataclass(frozen=True, slots=True)
class GroupLengths:
    """How long groups are: all that dealing them to micro-batches may look at.

    `tokens` [G]: prompt once plus responses. `attended` [G]: query-key pairs of the causal
    attention, p²/2 + Σ (p·r + r²/2).
    """

    tokens: Ints
    attended: NDArray[np.float64]

    @classmethod
    def of_groups(cls, groups: Sequence[TokenGroup]) -> GroupLengths:
        """Measure groups that are in memory."""
        return cls.from_lengths(
            np.asarray([len(group.prompt_ids) for group in groups], np.int64),
            np.asarray([len(group.response_ids) for group in groups], np.int64),
            np.asarray([len(ids) for group in groups for ids in group.response_ids], np.int64),
        )

    @classmethod
    def from_lengths(cls, prompts: Ints, num_responses: Ints, responses: Ints) -> GroupLengths:
        """From the lengths of prompts [G] and of all responses in a row [R]."""
        owner = np.repeat(np.arange(len(prompts)), num_responses)
        total = np.bincount(owner, weights=responses, minlength=len(prompts))
        squares = np.bincount(owner, weights=responses.astype(float) ** 2, minlength=len(prompts))
        attended = prompts.astype(float) ** 2 / 2 + prompts * total + squares / 2
        return cls(prompts + total.astype(np.int64), attended)

    def cost(self, attention_weight: float) -> NDArray[np.float64]:
        """Work per group in tokens; one query-key pair costs as much as `attention_weight`."""
        return self.tokens + attention_weight * self.attended


def deal_groups(
    lengths: GroupLengths, *, token_budget: int, world_size: int, attention_weight: float = 0.0
) -> list[list[list[int]]]:
    """Deal groups to `[rank][micro-batch]`, equally many micro-batches on every rank.

    Longest first to the cheapest micro-batch that has room (Graham's LPT rule); micro-batches of
    like cost run at the same time on all ranks. One may be empty where there are few groups, and a
    group over the budget stands alone.
    """
    costs = lengths.cost(attention_weight)
    order = np.lexsort((np.arange(len(costs)), -costs)).tolist()
    per_rank = -(-int(lengths.tokens.sum()) // (token_budget * world_size))
    # Groups over the budget would ask for more micro-batches than there are groups.
    per_rank = max(1, min(per_rank, -(-len(costs) // world_size)))
    while True:
        bins = _fill(order, costs, lengths.tokens, per_rank * world_size, token_budget)
        if bins is not None:
            return _spread(bins, costs, world_size)
        per_rank += 1


def _fill(
    order: list[int], costs: NDArray[np.float64], tokens: Ints, num_bins: int, budget: int
) -> list[list[int]] | None:
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    room = [budget] * num_bins
    heap = [(0.0, index) for index in range(num_bins)]
    for group in order:
        size = int(tokens[group])
        passed: list[tuple[float, int]] = []
        while heap and room[heap[0][1]] < size and not (size > budget and not bins[heap[0][1]]):
            passed.append(heapq.heappop(heap))
        if not heap:
            return None
        cost, index = heapq.heappop(heap)
        bins[index].append(group)
        room[index] -= size
        heapq.heappush(heap, (cost + float(costs[group]), index))
        for entry in passed:
            heapq.heappush(heap, entry)
    return bins


def _spread(
    bins: list[list[int]], costs: NDArray[np.float64], world_size: int
) -> list[list[list[int]]]:
    ordered = sorted(bins, key=lambda members: (-float(costs[members].sum()), members))
    dealt: list[list[list[int]]] = [[] for _ in range(world_size)]
    for position, members in enumerate(ordered):
        turn, rank = divmod(position, world_size)
        # Back and forth, so that no rank always takes the costliest of its row.
        dealt[rank if turn % 2 == 0 else world_size - 1 - rank].append(sorted(members))
    return dealt
