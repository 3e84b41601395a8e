"""The rules that benchmarks share: strict and half-credit pairs, best-of-N, the paper's rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.benchmark import Item, Outcome, PairSelection, Protocol, ScoredItem, Section
from worldpm.schema import Pair


def labelled_pairs(item: Item) -> tuple[Pair, ...]:
    """The pairs as the authors label them."""
    return item.pairs


def per_item(
    credit: Callable[[ScoredItem], tuple[float, float]],
) -> Callable[[Sequence[ScoredItem]], list[Outcome]]:
    """Lift a rule for one item, (credit, size), to all items; a size of 0 leaves the item out."""

    def outcomes(scored: Sequence[ScoredItem]) -> list[Outcome]:
        earned = [(one.item, credit(one)) for one in scored]
        return [
            Outcome(item.item_id, item.subset, amount, size)
            for item, (amount, size) in earned
            if size > 0
        ]

    return outcomes


def pair_credit(pairs: PairSelection, *, tie: float) -> Callable[[ScoredItem], tuple[float, float]]:
    """One point a pair whose chosen response scores higher, `tie` for equal scores."""

    def credit(one: ScoredItem) -> tuple[float, float]:
        selected = pairs(one.item)
        amount = sum(pair_outcome(one.scores, pair, tie) for pair in selected)
        return amount, float(len(selected))

    return credit


def pair_outcome(scores: Sequence[float], pair: Pair, tie: float) -> float:
    """1, `tie` or 0 for one pair."""
    chosen, rejected = scores[pair.chosen], scores[pair.rejected]
    if chosen == rejected:
        return tie
    return float(chosen > rejected)


def pairwise(
    *,
    tie: float,
    rule: str,
    pairs: PairSelection = labelled_pairs,
    sections: tuple[Section, ...] = (),
) -> Protocol:
    """Accuracy over pairs with `tie` points for equal scores."""
    return Protocol(
        rule=rule,
        pairs=pairs,
        outcomes=per_item(pair_credit(pairs, tie=tie)),
        sections=sections,
    )


def worldpm_rule(pairs: PairSelection = labelled_pairs, note: str = "") -> Protocol:
    """The paper's: ties one half, every pair counts the same (inferred from its tables' digits)."""
    return pairwise(tie=0.5, rule=f"pairs, tie = 0.5, micro average{note}", pairs=pairs)


STRICT = pairwise(tie=0.0, rule="pairs, tie = 0, micro average")
WORLDPM = worldpm_rule()


def best_of_n(
    *, rule: str, credit: Callable[[ScoredItem], float], sections: tuple[Section, ...] = ()
) -> Protocol:
    """One point an item for picking (one of) the best among all its responses."""
    return Protocol(
        rule=rule,
        pairs=labelled_pairs,
        outcomes=per_item(lambda one: (credit(one), 1.0)),
        sections=sections,
        chance=lambda item: 1.0 / len(item.responses),
    )


def beats_all(one: ScoredItem) -> float:
    """1 if the first response scores strictly higher than every other."""
    return float(all(one.scores[0] > score for score in one.scores[1:]))
