"""From outcomes to one number: strata with their weights, as a protocol's sections ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.benchmark import Outcome, Section, lies_under
from eval.statistics import Floats, Stratum


def build_strata(
    outcomes: Sequence[Outcome], sections: Sequence[Section]
) -> tuple[list[Stratum], list[str]]:
    """What is averaged, with its weight, and the sections or subsets that are not there.

    Without sections: all items alike. A section without `counts` pools its items; with them each
    subset is averaged by itself. The weights of what is missing fall away, as in the authors' code.
    """
    if not sections:
        return [stratum_of(outcomes, 1.0)], []
    strata: list[Stratum] = []
    missing: list[str] = []
    for section in sections:
        members = [one for one in outcomes if lies_under(one.subset, section.subsets)]
        present = [name for name in section.subsets if _under(members, name)]
        missing += [name for name in section.subsets if name not in present]
        if not members:
            continue
        if section.counts is None:
            strata.append(stratum_of(members, section.weight))
            continue
        total = sum(section.counts[name] for name in present)
        strata += [
            stratum_of(_under(members, name), section.weight * section.counts[name] / total)
            for name in present
        ]
    return strata, missing


def outcome_weights(outcomes: Sequence[Outcome], sections: Sequence[Section]) -> Floats:
    """The weight of every outcome's credit in the accuracy: accuracy = Σ weight · credit."""
    if not sections:
        return np.full(len(outcomes), 1.0 / sum(one.size for one in outcomes))
    weights = np.zeros(len(outcomes))
    for section in sections:
        names = [(section.subsets, 1.0)]
        if section.counts is not None:
            names = [((name,), section.counts[name]) for name in section.subsets]
        inside = [
            ([lies_under(one.subset, subsets) for one in outcomes], count)
            for subsets, count in names
        ]
        present = [(np.array(mask), count) for mask, count in inside if any(mask)]
        total = sum(count for _, count in present)
        for mask, count in present:
            size = sum(one.size for one, selected in zip(outcomes, mask, strict=True) if selected)
            weights[mask] = section.weight * count / total / size
    sizes = np.array([one.size for one in outcomes])
    return weights / float(weights @ sizes)


def stratum_of(outcomes: Sequence[Outcome], weight: float) -> Stratum:
    """Outcomes that are averaged alike."""
    return Stratum(
        np.array([one.credit for one in outcomes], dtype=np.float64),
        np.array([one.size for one in outcomes], dtype=np.float64),
        weight,
    )


def _under(outcomes: Sequence[Outcome], name: str) -> list[Outcome]:
    return [one for one in outcomes if lies_under(one.subset, (name,))]


def weighted_mean(outcomes: Sequence[Outcome], sections: Sequence[Section]) -> float:
    """The accuracy alone, without its error."""
    strata, _ = build_strata(outcomes, sections)
    weights = np.array([stratum.weight for stratum in strata])
    return float(np.average([stratum.mean for stratum in strata], weights=weights))
