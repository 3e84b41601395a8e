"""Live checks of a scorer: what must not change a score, and what must.

Duplicate responses must score equal; a response's score must not depend on the order or company of
the others; under another item's prompt the preference should be lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from eval.benchmark import Item, ScoredItem
from eval.protocols import pair_outcome
from eval.runner import GroupScorer
from worldpm.schema import Group


def run_probes(
    items: Sequence[Item], scorer: GroupScorer, *, num_items: int, tolerance: float
) -> dict[str, Any]:
    """Probe on `num_items` items, chosen by the hash of their ids; at least two are needed.

    `passed` says whether no score moved by more than `tolerance` where none may.
    """
    sample = sorted((item for item in items if item.pairs), key=_hash)[:num_items]
    if len(sample) < 2:
        return {}
    scored = [
        ScoredItem(item, tuple(result.scores))
        for item, result in zip(sample, scorer.score([_group(i) for i in sample]), strict=True)
    ]
    duplicates = duplicate_difference(sample, scorer)
    order = order_difference(scored, scorer)
    return {
        "num_items": len(sample),
        "duplicate_response_max_difference": duplicates,
        "order_max_difference": order,
        "tolerance": tolerance,
        "passed": max(duplicates, order) <= tolerance,
        "accuracy": _accuracy(scored),
        "shuffled_prompt_accuracy": _accuracy(with_shuffled_prompts(scored, scorer)),
    }


def duplicate_difference(items: Sequence[Item], scorer: GroupScorer) -> float:
    """Largest difference between the scores of one response that stands in a group twice."""
    groups = [
        Group(item.item_id, item.prompt, (item.responses[0], *item.responses, item.responses[0]))
        for item in items
    ]
    differences = [
        max(abs(result.scores[0] - result.scores[1]), abs(result.scores[0] - result.scores[-1]))
        for result in scorer.score(groups)
    ]
    return float(max(differences))


def order_difference(scored: Sequence[ScoredItem], scorer: GroupScorer) -> float:
    """Largest change of a score when the responses stand in the opposite order."""
    groups = [Group(one.item.item_id, one.item.prompt, one.item.responses[::-1]) for one in scored]
    return float(
        max(
            np.abs(np.array(result.scores[::-1]) - np.array(one.scores)).max()
            for one, result in zip(scored, scorer.score(groups), strict=True)
        )
    )


def with_shuffled_prompts(scored: Sequence[ScoredItem], scorer: GroupScorer) -> list[ScoredItem]:
    """The same responses, each item under the prompt of the next one in the sample.

    Accuracy that survives this comes from the responses alone.
    """
    items = [one.item for one in scored]
    groups = [
        Group(item.item_id, other.prompt, item.responses)
        for item, other in zip(items, [*items[1:], items[0]], strict=True)
    ]
    return [
        ScoredItem(item, tuple(result.scores))
        for item, result in zip(items, scorer.score(groups), strict=True)
    ]


def _accuracy(scored: Sequence[ScoredItem]) -> float:
    outcomes = [pair_outcome(one.scores, pair, 0.5) for one in scored for pair in one.item.pairs]
    return float(np.mean(outcomes))


def _hash(item: Item) -> str:
    return hashlib.sha256(item.item_id.encode()).hexdigest()


def _group(item: Item) -> Group:
    return Group(item.item_id, item.prompt, item.responses)
