"""Numbers with their errors: stratified means and bootstrap, temperature, calibration, tests.

Shapes: I items, P pairs, B bootstrap draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, nan

import numpy as np
from numpy.typing import NDArray

from worldpm.metrics import bradley_terry_losses

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Interval = tuple[float, float]

CONFIDENCE = 0.95
NUM_FOLDS = 5
NUM_BINS = 10
# Beyond this the loss no longer changes: the scores then rank every pair right.
MAX_LOG_TEMPERATURE = 12.0


@dataclass(frozen=True, slots=True)
class Stratum:
    """Items that are averaged alike: the ratio Σ credit / Σ size counts `weight` in the mean."""

    credits: Floats
    sizes: Floats
    weight: float

    @property
    def mean(self) -> float:
        """Σ credit / Σ size."""
        return float(self.credits.sum() / self.sizes.sum())

    @property
    def variance(self) -> float:
        """Of the mean, over items (ratio estimator); NaN for a single item."""
        num_items = len(self.credits)
        if num_items < 2:
            return nan
        residual_I = self.credits - self.mean * self.sizes
        total = float(self.sizes.sum())
        return num_items / (num_items - 1) * float(residual_I @ residual_I) / total**2


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its standard error, its 95 % bootstrap interval; None where one item is all."""

    value: float
    standard_error: float | None
    interval: Interval | None


def stratified_estimate(
    strata: Sequence[Stratum], *, num_bootstrap: int, generator: np.random.Generator
) -> Estimate:
    """Weighted mean of strata; items are resampled within their stratum."""
    weights = np.array([stratum.weight for stratum in strata])
    weights = weights / weights.sum()
    value = float(weights @ np.array([stratum.mean for stratum in strata]))
    if any(len(stratum.credits) < 2 for stratum in strata):
        return Estimate(value, None, None)
    variance = sum(w**2 * s.variance for w, s in zip(weights, strata, strict=True))
    draws_B = sum(
        w * _bootstrap_means(s, num_bootstrap, generator)
        for w, s in zip(weights, strata, strict=True)
    )
    return Estimate(value, float(np.sqrt(variance)), percentile_interval(np.asarray(draws_B)))


def percentile_interval(draws_B: Floats) -> Interval:
    """The middle 95 % of bootstrap draws."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws_B, [tail, 1 - tail])
    return float(low), float(high)


def _bootstrap_means(
    stratum: Stratum, num_bootstrap: int, generator: np.random.Generator
) -> Floats:
    table = np.stack([stratum.credits, stratum.sizes], axis=1)
    values, counts = np.unique(table, axis=0, return_counts=True)
    num_items = len(table)
    if len(values) <= 64:
        # Few distinct items (right or wrong): drawing their counts is the same distribution.
        counts_BV = generator.multinomial(num_items, counts / num_items, size=num_bootstrap)
        return (counts_BV @ values[:, 0]) / (counts_BV @ values[:, 1])
    means_B = np.empty(num_bootstrap)
    for index in range(num_bootstrap):
        drawn = table[generator.integers(0, num_items, num_items)].sum(axis=0)
        means_B[index] = drawn[0] / drawn[1]
    return means_B


def best_temperature(margins_P: Floats) -> float:
    """The factor τ ≥ 0 that minimises mean −log σ(τ · margin): 0 if the margins help nothing.

    The loss is convex in τ, so its slope has one zero, found by bisection on log τ. Margins that
    are all right have no minimum; then τ is the largest factor tried.
    """
    if len(margins_P) == 0 or margins_P.mean() <= 0:
        return 0.0
    scale = float(np.abs(margins_P).mean())

    def slope(log_factor: float) -> float:
        scaled = margins_P * (np.exp(log_factor) / scale)
        return -float((margins_P / (1 + np.exp(np.clip(scaled, -700, 700)))).sum())

    low, high = -MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE
    if slope(high) < 0:
        return float(np.exp(high) / scale)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(np.exp((low + high) / 2) / scale)


def folds(item_indices_P: Integers, num_folds: int = NUM_FOLDS, *, seed: int = 0) -> Integers:
    """A fold for every pair; pairs of one item share it, folds differ by one item at most."""
    num_items = int(item_indices_P.max()) + 1
    order = np.random.default_rng(seed).permutation(num_items)
    return (order % num_folds)[item_indices_P]


def cross_fitted_temperature_losses(margins_P: Floats, item_indices_P: Integers) -> Floats:
    """Each pair's loss at the temperature that is best on the other folds' pairs."""
    fold_P = folds(item_indices_P)
    losses_P = np.empty(len(margins_P))
    for fold in range(NUM_FOLDS):
        inside = fold_P == fold
        temperature = best_temperature(margins_P[~inside])
        losses_P[inside] = bradley_terry_losses(temperature * margins_P[inside])
    return losses_P


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Pairs whose predicted probability of the preferred response lies in one bin."""

    low: float
    high: float
    num_pairs: int
    confidence: float
    accuracy: float


def calibration_bins(margins_P: Floats, num_bins: int = NUM_BINS) -> list[CalibrationBin]:
    """Reliability over [0.5, 1]: σ(|margin|) against how often the higher score is right."""
    confidence_P = 1 / (1 + np.exp(-np.abs(margins_P)))
    right_P = np.where(margins_P == 0, 0.5, (margins_P > 0).astype(np.float64))
    edges = np.linspace(0.5, 1.0, num_bins + 1)
    bin_P = np.clip(np.searchsorted(edges, confidence_P, side="right") - 1, 0, num_bins - 1)
    return [
        CalibrationBin(
            float(edges[index]),
            float(edges[index + 1]),
            int(inside.sum()),
            float(confidence_P[inside].mean()),
            float(right_P[inside].mean()),
        )
        for index in range(num_bins)
        if (inside := bin_P == index).any()
    ]


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float:
    """Mean |accuracy − confidence| over bins, weighted by their pairs (Guo et al., 2017)."""
    total = sum(one.num_pairs for one in bins)
    return sum(one.num_pairs * abs(one.accuracy - one.confidence) for one in bins) / total


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Exact two-sided McNemar test on the items that one model has right and the other wrong."""
    num_discordant = only_first + only_second
    if num_discordant == 0:
        return 1.0
    smaller = min(only_first, only_second)
    tail = sum(comb(num_discordant, count) for count in range(smaller + 1)) / 2**num_discordant
    return min(1.0, 2 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: smallest × m, next × (m − 1) …, never decreasing."""
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
