"""A response group as token ids: what shards hold, packing lays out and the model scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldpm.schema import Pair

# K responses, P pairs of one group.
Ints = NDArray[np.int64]
Ids = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TokenGroup:
    """Token ids of a prompt and its responses, and the pairs among them.

    Every response ends with the reward token. `chosen`, `rejected`, `margin` and `weight` are [P];
    `scores` [K] are the responses' scores in the source's unit (0 where there are none).
    """

    group_id: str
    prompt_ids: Ids
    response_ids: tuple[Ids, ...]
    chosen: Ints
    rejected: Ints
    margin: Ints
    weight: Floats
    scores: Ints

    @classmethod
    def from_ids(
        cls,
        group_id: str,
        prompt_ids: Sequence[int],
        response_ids: Sequence[Sequence[int]],
        pairs: Sequence[Pair] = (),
        scores: Sequence[int] | None = None,
    ) -> TokenGroup:
        """Build a group from lists, as the encoder gives them."""
        return cls(
            group_id=group_id,
            prompt_ids=np.asarray(prompt_ids, np.int32),
            response_ids=tuple(np.asarray(ids, np.int32) for ids in response_ids),
            chosen=np.asarray([pair.chosen for pair in pairs], np.int64),
            rejected=np.asarray([pair.rejected for pair in pairs], np.int64),
            margin=np.asarray([pair.margin for pair in pairs], np.int64),
            weight=np.asarray([pair.weight for pair in pairs], np.float32),
            scores=np.asarray(scores or [0] * len(response_ids), np.int64),
        )

    @property
    def num_pairs(self) -> int:
        """Number of preference pairs."""
        return len(self.chosen)

    @property
    def num_tokens(self) -> int:
        """Tokens of the prompt, once, and of every response."""
        return len(self.prompt_ids) + sum(len(ids) for ids in self.response_ids)

    def pair_ids(self) -> list[str]:
        """A name for every pair, the same wherever and whenever it is consumed."""
        return [
            f"{self.group_id}:{chosen}:{rejected}"
            for chosen, rejected in zip(self.chosen.tolist(), self.rejected.tolist(), strict=True)
        ]

    def keep_pairs(self, kept: Sequence[int]) -> TokenGroup:
        """The group with only the pairs of these indices and the responses they need."""
        selected = np.asarray(kept, np.int64)
        chosen, rejected = self.chosen[selected], self.rejected[selected]
        needed = np.unique(np.concatenate([chosen, rejected]))
        return replace(
            self,
            response_ids=tuple(self.response_ids[index] for index in needed),
            chosen=np.searchsorted(needed, chosen),
            rejected=np.searchsorted(needed, rejected),
            margin=self.margin[selected],
            weight=self.weight[selected],
            scores=self.scores[needed],
        )


def split_group(group: TokenGroup, token_budget: int) -> list[TokenGroup]:
    """Cut a group that exceeds a token budget into groups of fewer pairs.

    The prompt is repeated and so may be a response: the sum of the pairs' losses and its gradient
    stay the same. A single pair over the budget stays whole.
    """
    lengths = [len(ids) for ids in group.response_ids]
    parts: list[list[int]] = []
    members: set[int] = set()
    for index in range(group.num_pairs):
        pair = {int(group.chosen[index]), int(group.rejected[index])}
        union = members | pair
        size = len(group.prompt_ids) + sum(lengths[member] for member in union)
        if parts and size <= token_budget:
            parts[-1].append(index)
            members = union
        else:
            parts.append([index])
            members = pair
    return [group.keep_pairs(part) for part in parts]


def group_from_arrow(row: Any) -> TokenGroup:
    """Read a row of a token shard given as a mapping of Python values (tests and tools)."""
    pairs = [
        Pair(pair["chosen"], pair["rejected"], pair["margin"], pair["weight"])
        for pair in row["pairs"]
    ]
    return TokenGroup.from_ids(
        row["group_id"], row["prompt_ids"], row["response_ids"], pairs, row["response_scores"]
    )
