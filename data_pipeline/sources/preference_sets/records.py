"""What a reader of a preference set gives: groups, and items that make none, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from data_pipeline.keyed_hash import text_key
from worldpm.schema import Group, Message, Pair

AnswerPairing = Literal["one_random_pair", "all"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """An item of the source that makes no group."""

    reason: str
    where: str


def make_group(
    group_id: str,
    prompt: Sequence[Message],
    responses: Sequence[str],
    pairs: Sequence[Pair],
    where: str,
) -> Group | Dropped:
    """A group, unless there is nothing to prefer or a text is missing."""
    if not pairs:
        return Dropped("equal_ratings", where)
    if not any(turn.content.strip() for turn in prompt):
        return Dropped("empty_prompt", where)
    named = {index for pair in pairs for index in (pair.chosen, pair.rejected)}
    if not all(responses[index].strip() for index in named):
        return Dropped("empty_response", where)
    different = tuple(p for p in pairs if responses[p.chosen] != responses[p.rejected])
    if not different:
        return Dropped("same_text", where)
    return Group(group_id, tuple(prompt), tuple(responses), different)


def prefer(ratings: Sequence[float], first: int, second: int, scale: float = 1) -> Pair | None:
    """The pair of two rated responses; None where the ratings are equal.

    The margin is the difference of the ratings times `scale`, at least 1.
    """
    difference = ratings[first] - ratings[second]
    if difference == 0:
        return None
    margin = max(1, round(abs(difference) * scale))
    return Pair(first, second, margin) if difference > 0 else Pair(second, first, margin)


def pair_up(
    ratings: Sequence[float], group_id: str, seed: int, policy: AnswerPairing
) -> list[Pair]:
    """All pairs of unequal ratings, or one of them drawn by keyed hash."""
    pairs = [
        pair
        for first, second in combinations(range(len(ratings)), 2)
        if (pair := prefer(ratings, first, second)) is not None
    ]
    if policy == "all" or not pairs:
        return pairs
    return [pairs[text_key("pair", seed, group_id) % len(pairs)]]


def disjoint_pairs(
    ratings: Sequence[float], group_id: str, seed: int, scale: float = 1
) -> list[Pair]:
    """Pairs that share no response: as many with unequal ratings as there can be.

    Among the ways to pair up four responses, one of the best is drawn by keyed hash. (The paper:
    two disjoint pairs from the four responses of an UltraFeedback prompt.)
    """
    candidates = [
        [
            pair
            for first, second in matching
            if (pair := prefer(ratings, first, second, scale)) is not None
        ]
        for matching in _matchings(tuple(range(len(ratings))))
    ]
    most = max((len(pairs) for pairs in candidates), default=0)
    best = [pairs for pairs in candidates if len(pairs) == most]
    return best[text_key("disjoint", seed, group_id) % len(best)] if best else []


def _matchings(indices: tuple[int, ...]) -> list[list[tuple[int, int]]]:
    """All ways to put indices into pairs; of an odd number one stays alone."""
    if len(indices) < 2:
        return [[]]
    first, rest = indices[0], indices[1:]
    found = [
        [(first, partner), *others]
        for place, partner in enumerate(rest)
        for others in _matchings(rest[:place] + rest[place + 1 :])
    ]
    if len(indices) % 2:
        found += _matchings(rest)
    return found
