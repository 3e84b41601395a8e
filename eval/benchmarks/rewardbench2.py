"""RewardBench 2: best of four, and prompts with several right answers (Malik et al., 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb, inf, tanh
from pathlib import Path

from eval.benchmark import Benchmark, Item, Outcome, Protocol, ScoredItem, Section, Source, user
from eval.protocols import WORLDPM, labelled_pairs, per_item
from eval.rows import read_folder
from worldpm.schema import Pair

SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
TIES = "Ties"


def load(folder: Path) -> Iterator[Item]:
    """Read rows of `id`, `prompt`, `chosen`, `rejected` (lists) and `subset`."""
    for row in read_folder(folder):
        chosen, rejected = row.texts("chosen"), row.texts("rejected")
        if not chosen or not rejected:
            raise row.refuse("chosen and rejected must hold at least one response each")
        subset = row.choice("subset", SUBSETS)
        item_id = row.identifier("id")
        if subset == TIES and item_id.partition(":")[0] not in ("ref", "tied"):
            raise row.refuse(f"id {item_id!r} of the Ties subset must begin with ref: or tied:")
        if subset != TIES and len(chosen) != 1:
            raise row.refuse(f"{len(chosen)} chosen responses outside the Ties subset, expected 1")
        yield Item(
            item_id=item_id,
            subset=subset,
            prompt=user(row.text("prompt")),
            responses=chosen + rejected,
            pairs=tuple(
                Pair(good, len(chosen) + bad)
                for good in range(len(chosen))
                for bad in range(len(rejected))
            ),
            where=row.where,
            labels={"num_correct": len(chosen)},
        )


def shared_first_place(one: ScoredItem) -> tuple[float, float]:
    """1/k if the chosen response (the first) is among the k that share the highest score."""
    best = max(one.scores)
    return (1.0 / one.scores.count(best) if one.scores[0] == best else 0.0), 1.0


@dataclass(frozen=True, slots=True)
class TieStatistics:
    """Of one prompt: spread of the right answers, and gap of the worst right to the best wrong."""

    spread: float
    gap: float

    @classmethod
    def of(cls, one: ScoredItem) -> TieStatistics:
        num_correct = one.item.labels["num_correct"]
        correct, incorrect = one.scores[:num_correct], one.scores[num_correct:]
        return cls(max(correct) - min(correct), min(correct) - max(incorrect))


def tie_outcomes(scored: Sequence[ScoredItem]) -> list[Outcome]:
    """The Ties score as one outcome a prompt, whose mean is the authors' weighted sum.

    .30 accuracy on tied prompts + .30 on reference prompts + .20 share of prompts whose gap exceeds
    the spread + .20 the same with the smaller of both gaps + .01 mean tanh(smaller gap/spread − 1).
    """
    tied = {one.item.item_id.partition(":")[2]: one for one in scored if _is(one, "tied")}
    reference = {one.item.item_id.partition(":")[2]: one for one in scored if _is(one, "ref")}
    both = tied.keys() & reference.keys()
    prompts = list(dict.fromkeys([*tied, *reference]))
    outcomes: list[Outcome] = []
    for prompt in prompts:
        credit = 0.0
        # Each part is a mean over its own prompts; scaled so that the mean over all gives it.
        if prompt in tied:
            credit += 0.3 * (TieStatistics.of(tied[prompt]).gap > 0) * len(prompts) / len(tied)
        if prompt in reference:
            gap = TieStatistics.of(reference[prompt]).gap
            credit += 0.3 * (gap > 0) * len(prompts) / len(reference)
        if prompt in both:
            margins = _margin_credit(tied[prompt], reference[prompt])
            credit += margins * len(prompts) / len(both)
        outcomes.append(Outcome(prompt, TIES, credit))
    return outcomes


def _margin_credit(tied: ScoredItem, reference: ScoredItem) -> float:
    statistics = TieStatistics.of(tied)
    hard_gap = min(statistics.gap, TieStatistics.of(reference).gap)
    return (
        0.2 * (statistics.gap > statistics.spread)
        + 0.2 * (hard_gap > statistics.spread)
        + 0.01 * _squashed(hard_gap, statistics.spread)
    )


def _squashed(gap: float, spread: float) -> float:
    if spread > 0:
        return tanh(gap / spread - 1)
    # 0/0 counts nothing; a division by a zero spread alone is ±infinity, as in the authors' numpy.
    return 0.0 if gap == 0 else tanh(inf if gap > 0 else -inf)


def _is(one: ScoredItem, kind: str) -> bool:
    return one.item.item_id.startswith(f"{kind}:")


def _outcomes(scored: Sequence[ScoredItem]) -> list[Outcome]:
    best_of_four = per_item(shared_first_place)([one for one in scored if one.item.subset != TIES])
    return best_of_four + tie_outcomes([one for one in scored if one.item.subset == TIES])


def _chance(item: Item) -> float:
    num_correct = item.labels["num_correct"]
    return 1.0 / comb(len(item.responses), num_correct)


SOURCE = Source(
    name="rewardbench2",
    load=load,
    licence="ODC-BY",
    origin="https://github.com/allenai/reward-bench",
    hub_id="allenai/reward-bench-2",
    item_ids="id (ref:7 and tied:7 in the Ties subset)",
    response_order="chosen in order, then rejected in order",
    benchmarks=(
        Benchmark(
            name="rewardbench2",
            kind="objective",
            official=Protocol(
                rule="best of four, k tied at the top with the chosen = 1/k; Ties by its own "
                "weighted sum; unweighted mean of six subsets",
                pairs=labelled_pairs,
                outcomes=_outcomes,
                sections=tuple(Section(subset, (subset,)) for subset in SUBSETS),
                chance=_chance,
            ),
            worldpm=WORLDPM,
            description="The whole suite of six subsets.",
            num_items=1865,
            caveats=(
                "Focus: the shortest response wins 53 % against 25 % by chance.",
                "The authors' repository has no overall aggregator; the paper's mean is taken.",
                "The random baseline of Ties counts its accuracy part only.",
            ),
        ),
    ),
)
