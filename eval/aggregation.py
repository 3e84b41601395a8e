"""From scored items to numbers: pure functions, the same for a model's run and a file of scores.

Every accuracy comes with a standard error and a bootstrap interval, the Bradley-Terry loss also at
its best temperature, and beside them stand what length, Markdown and chance alone would earn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from eval.averaging import build_strata, stratum_of, weighted_mean
from eval.benchmark import Benchmark, Outcome, Protocol, ScoredItem, Section, lies_under
from eval.statistics import (
    Floats,
    Integers,
    Stratum,
    best_temperature,
    calibration_bins,
    cross_fitted_temperature_losses,
    expected_calibration_error,
    stratified_estimate,
)
from eval.style_control import Style, style_of, style_report
from worldpm.metrics import bradley_terry_losses, clustered_mean, item_indices

StyleLookup = Callable[[ScoredItem], Sequence[Style]]


@dataclass(frozen=True, slots=True)
class AggregationSettings:
    """How many bootstrap draws, from which seed."""

    num_bootstrap: int = 1000
    seed: int = 0

    def generator(self) -> np.random.Generator:
        """A fresh generator, so that a benchmark's interval depends on nothing before it."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True, slots=True)
class PairArrays:
    """The pairs of scored items under one protocol: margins and the item each belongs to."""

    margins: Floats
    items: Integers
    chosen: tuple[tuple[int, int], ...]
    rejected: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, scored: Sequence[ScoredItem], protocol: Protocol) -> PairArrays:
        """Collect the protocol's pairs; `chosen[p]` is (index of the item, of the response)."""
        chosen, rejected = [], []
        for index, one in enumerate(scored):
            for pair in protocol.pairs(one.item):
                chosen.append((index, pair.chosen))
                rejected.append((index, pair.rejected))
        margins = np.array(
            [
                scored[i].scores[good] - scored[i].scores[bad]
                for (i, good), (_, bad) in zip(chosen, rejected, strict=True)
            ],
            dtype=np.float64,
        )
        items = item_indices([str(index) for index, _ in chosen])
        return cls(margins, items, tuple(chosen), tuple(rejected))


def evaluate_protocol(
    protocol: Protocol,
    scored: Sequence[ScoredItem],
    styles: StyleLookup,
    settings: AggregationSettings,
) -> dict[str, Any]:
    """One protocol's block of `results.json`.

    `scored` holds the benchmark's items, at least one with an outcome under the protocol.
    """
    outcomes = protocol.outcomes(scored)
    strata, missing = build_strata(outcomes, protocol.sections)
    estimate = stratified_estimate(
        strata, num_bootstrap=settings.num_bootstrap, generator=settings.generator()
    )
    pairs = PairArrays.of(scored, protocol)
    return {
        "accuracy": estimate.value,
        "standard_error": estimate.standard_error,
        "interval": estimate.interval,
        **_loss_block(pairs, settings),
        "num_items": len(outcomes),
        "num_pairs": len(pairs.margins),
        "num_ties": int(np.count_nonzero(pairs.margins == 0)),
        "length_baseline": _baseline(protocol, scored, styles, lambda style: style.length),
        "shorter_baseline": _baseline(protocol, scored, styles, lambda style: -style.length),
        "markdown_baseline": _baseline(protocol, scored, styles, lambda style: style.markdown),
        "random_baseline": _chance(protocol, scored),
        "subsets": _subsets(protocol, scored, outcomes, styles, settings),
        "sections": _sections(outcomes, protocol.sections),
        "missing_sections": missing,
        "rule": protocol.rule,
        **protocol.extras(scored),
    }


def evaluate_details(
    benchmark: Benchmark,
    scored: Sequence[ScoredItem],
    styles: StyleLookup,
) -> dict[str, Any]:
    """What stands beside a benchmark's numbers: swap probe, calibration and style control.

    All over the pairs of the paper's rule.
    """
    pairs = PairArrays.of(scored, benchmark.worldpm)
    if not len(pairs.margins):
        return {}
    cached = [styles(one) for one in scored]
    temperature = best_temperature(pairs.margins)
    return {
        "swap_probe": swap_probe(pairs.margins),
        "calibration": {
            "raw": _calibration(pairs.margins),
            "at_best_temperature": _calibration(temperature * pairs.margins),
        },
        "style_control": style_report(
            pairs.margins,
            [cached[item][response] for item, response in pairs.chosen],
            [cached[item][response] for item, response in pairs.rejected],
            pairs.items,
        ),
    }


def swap_probe(margins_P: Floats) -> dict[str, float]:
    """Strict accuracy with chosen and rejected as labelled and exchanged; with ties they sum to 1.

    An evaluation that reports well in both orders does not read the labels.
    """
    accuracy = float(np.mean(margins_P > 0))
    swapped = float(np.mean(-margins_P > 0))
    ties = float(np.mean(margins_P == 0))
    total = accuracy + swapped + ties
    assert abs(total - 1) < 1e-9, f"accuracy {accuracy} + swapped {swapped} + ties {ties} ≠ 1"
    return {"accuracy": accuracy, "swapped_accuracy": swapped, "tie_rate": ties}


def _loss_block(pairs: PairArrays, settings: AggregationSettings) -> dict[str, Any]:
    if not len(pairs.margins):
        return {"bt_loss": None}
    losses = bradley_terry_losses(pairs.margins)
    estimate = stratified_estimate(
        [_by_item(losses, pairs.items)],
        num_bootstrap=settings.num_bootstrap,
        generator=settings.generator(),
    )
    block: dict[str, Any] = {
        "bt_loss": estimate.value,
        "bt_loss_standard_error": estimate.standard_error,
        "bt_loss_interval": estimate.interval,
        "temperature": best_temperature(pairs.margins),
    }
    if int(pairs.items.max()) + 1 >= 10:
        fitted = cross_fitted_temperature_losses(pairs.margins, pairs.items)
        mean, error = clustered_mean(fitted, pairs.items)
        block |= {
            "bt_loss_best_temperature": mean,
            "bt_loss_best_temperature_standard_error": error,
        }
    return block


def _by_item(values_P: Floats, items_P: Integers) -> Stratum:
    sums = np.bincount(items_P, weights=values_P)
    return Stratum(np.asarray(sums, np.float64), np.bincount(items_P).astype(np.float64), 1.0)


def _with_scores(
    scored: Sequence[ScoredItem], styles: StyleLookup, feature: Callable[[Style], float]
) -> list[ScoredItem]:
    return [ScoredItem(one.item, tuple(feature(style) for style in styles(one))) for one in scored]


def _baseline(
    protocol: Protocol,
    scored: Sequence[ScoredItem],
    styles: StyleLookup,
    feature: Callable[[Style], float],
) -> float:
    outcomes = protocol.outcomes(_with_scores(scored, styles, feature))
    return weighted_mean(outcomes, protocol.sections)


def _chance(protocol: Protocol, scored: Sequence[ScoredItem]) -> float:
    outcomes = [
        Outcome(one.item.item_id, one.item.subset, protocol.chance(one.item))
        for one in scored
        if protocol.pairs(one.item)
    ]
    return weighted_mean(outcomes, protocol.sections)


def _subsets(
    protocol: Protocol,
    scored: Sequence[ScoredItem],
    outcomes: Sequence[Outcome],
    styles: StyleLookup,
    settings: AggregationSettings,
) -> dict[str, Any]:
    by_length = protocol.outcomes(_with_scores(scored, styles, lambda style: style.length))
    report: dict[str, Any] = {}
    for subset in dict.fromkeys(one.subset for one in outcomes):
        members = [one for one in outcomes if one.subset == subset]
        estimate = stratified_estimate(
            [stratum_of(members, 1.0)],
            num_bootstrap=settings.num_bootstrap,
            generator=settings.generator(),
        )
        pairs = PairArrays.of([one for one in scored if one.item.subset == subset], protocol)
        report[subset] = {
            "accuracy": estimate.value,
            "standard_error": estimate.standard_error,
            "interval": estimate.interval,
            "bt_loss": float(bradley_terry_losses(pairs.margins).mean()),
            "num_items": len(members),
            "num_ties": int(np.count_nonzero(pairs.margins == 0)),
            "length_baseline": weighted_mean(
                [one for one in by_length if one.subset == subset], ()
            ),
        }
    return report


def _sections(outcomes: Sequence[Outcome], sections: Sequence[Section]) -> dict[str, float]:
    report: dict[str, float] = {}
    for section in sections:
        members = [one for one in outcomes if lies_under(one.subset, section.subsets)]
        if members:
            report[section.name] = weighted_mean(members, (section,))
    return report


def _calibration(margins_P: Floats) -> dict[str, Any]:
    bins = calibration_bins(margins_P)
    return {"ece": expected_calibration_error(bins), "bins": [asdict(one) for one in bins]}


def character_styles(one: ScoredItem) -> list[Style]:
    """Style features with lengths in characters, for scores that carry no token counts."""
    return [style_of(text) for text in one.item.responses]
