"""Krippendorff's alpha: how far annotators agree beyond chance, whatever their number and gaps.

Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Level = Literal["nominal", "ordinal", "interval"]
Floats = npt.NDArray[np.float64]


def krippendorff_alpha(units: Sequence[Sequence[Hashable]], level: Level) -> float | None:
    """1 for perfect agreement, 0 for chance, negative for systematic disagreement.

    `units` holds the values that annotators gave each unit, in any order; a unit with fewer than
    two values cannot be compared and does not count. `ordinal` orders the values as Python sorts
    them, `interval` takes their differences. None if no unit has two values, or if all values are
    the same, for then there is nothing to agree about.
    """
    comparable = [unit for unit in units if len(unit) >= 2]
    values = sorted({value for unit in comparable for value in unit})  # type: ignore[type-var]
    if len(values) < 2:
        return None
    coincidences_VV = _coincidences(comparable, values)
    totals_V = coincidences_VV.sum(axis=1)
    distance_VV = _DISTANCES[level](values, totals_V)
    observed = (coincidences_VV * distance_VV).sum()
    expected = (np.outer(totals_V, totals_V) * distance_VV).sum() / (totals_V.sum() - 1)
    return float(1 - observed / expected)


def _coincidences(units: Sequence[Sequence[Hashable]], values: Sequence[Hashable]) -> Floats:
    place = {value: number for number, value in enumerate(values)}
    matrix = np.zeros((len(values), len(values)))
    for unit in units:
        counts = np.bincount([place[value] for value in unit], minlength=len(values))
        pairs = np.outer(counts, counts) - np.diag(counts)
        matrix += pairs / (len(unit) - 1)
    return matrix


def _nominal(values: Sequence[Hashable], totals_V: Floats) -> Floats:
    del totals_V
    return 1.0 - np.eye(len(values))


def _ordinal(values: Sequence[Hashable], totals_V: Floats) -> Floats:
    del values
    # Half of the two values' own counts, and all that lie between: the squared rank difference.
    middles = np.cumsum(totals_V) - totals_V / 2
    return (middles[:, None] - middles[None, :]) ** 2


def _interval(values: Sequence[Hashable], totals_V: Floats) -> Floats:
    del totals_V
    numbers = np.asarray(values, np.float64)
    return (numbers[:, None] - numbers[None, :]) ** 2


_DISTANCES: dict[Level, Callable[[Sequence[Hashable], Floats], Floats]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval,
}
