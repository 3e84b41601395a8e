"""Resample items, and seeds where there are several, jointly across all checkpoints and sizes.

The items of a test set are the same at every checkpoint, so most of their sampling noise is shared
along a curve; drawing items once for all curves keeps that, and the interval of a trend is as
narrow as it should be. What items cannot explain, the wiggle of training, is estimated from the
scatter about a smooth curve and added.
"""

# R resamples, P points, I items, S seeds, n points of one curve

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.collect import Point
from scaling.robust_fit import Array

MAX_DRAWS_AT_ONCE = 8_000_000  # resamples × items held in memory


@dataclass(frozen=True, slots=True)
class Curve:
    """One size on one test set: mean loss at D, of the sample and of every resample."""

    size: str
    num_params: int
    num_params_non_embedding: int
    seeds: tuple[int, ...]
    num_samples: Array
    num_tokens: Array
    flops: Array
    value: Array
    resampled: Array  # [R, n]


def resample_item_means(
    sums: Sequence[Array], weight_I: Array, *, num_resamples: int, seed: int
) -> list[Array]:
    """Means [R, P] of item sums [P, I] for each of several series, on the same resamples.

    An item is drawn with all its pairs, a weighted mean is Σ sums / Σ weights of what was drawn.
    """
    num_items = len(weight_I)
    rng = np.random.default_rng(seed)
    rows = max(1, min(num_resamples, MAX_DRAWS_AT_ONCE // num_items))
    parts: list[list[Array]] = [[] for _ in sums]
    for start in range(0, num_resamples, rows):
        counts = draw_counts(rng, min(rows, num_resamples - start), num_items)
        total = counts @ weight_I
        for part, values in zip(parts, sums, strict=True):
            part.append((counts @ values.T) / total[:, None])
    return [np.concatenate(part) for part in parts]


def draw_counts(rng: np.random.Generator, num_resamples: int, num_items: int) -> Array:
    """How often each item is drawn [R, I] when I items are drawn with replacement."""
    drawn = rng.integers(num_items, size=(num_resamples, num_items))
    drawn += np.arange(num_resamples)[:, None] * num_items
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_items)
    return counts.reshape(num_resamples, num_items).astype(np.float64)


def make_curves(
    points: Sequence[Point], values: Array, resampled: Array, *, seed: int
) -> list[Curve]:
    """Bring points [P] with values [P] and resamples [R, P] together, one curve a size.

    A curve keeps the sample counts that every seed of the size was evaluated at, and is the mean
    over seeds; resamples draw seeds as well.
    """
    rng = np.random.default_rng(seed)
    sizes = sorted({(point.num_params, point.size) for point in points})
    return [_curve(size, points, values, resampled, rng) for _, size in sizes]


def _curve(
    size: str, points: Sequence[Point], values: Array, resampled: Array, rng: np.random.Generator
) -> Curve:
    where = {
        (point.seed, point.num_pairs): index
        for index, point in enumerate(points)
        if point.size == size
    }
    seeds = sorted({seed for seed, _ in where})
    scales = sorted(
        scale
        for scale in {scale for _, scale in where}
        if all((seed, scale) in where for seed in seeds)
    )
    index_SN = np.array([[where[seed, scale] for scale in scales] for seed in seeds], dtype=int)
    index_SN = index_SN.reshape(len(seeds), len(scales))
    weight_RS = seed_weights(rng, len(resampled), len(seeds))
    first = [points[index] for index in index_SN[0]]
    example = next(point for point in points if point.size == size)
    return Curve(
        size=size,
        num_params=example.num_params,
        num_params_non_embedding=example.num_params_non_embedding,
        seeds=tuple(seeds),
        num_samples=np.array(scales, dtype=np.float64),
        num_tokens=np.array([point.num_tokens for point in first], dtype=np.float64),
        flops=np.array([point.flops for point in first], dtype=np.float64),
        value=values[index_SN].mean(axis=0),
        resampled=np.einsum("rs,rsn->rn", weight_RS, resampled[:, index_SN]),
    )


def seed_weights(rng: np.random.Generator, num_resamples: int, num_seeds: int) -> Array:
    """Weights [R, S] of the seeds' curves, adding up to 1 in every resample.

    Resampling S values understates the variance of their mean by (S − 1)/S; deviations from equal
    weights are stretched by the root of the inverse. A single seed always has weight 1.
    """
    if num_seeds == 1:
        return np.ones((num_resamples, 1))
    equal = 1.0 / num_seeds
    drawn = draw_counts(rng, num_resamples, num_seeds) / num_seeds
    return equal + np.sqrt(num_seeds / (num_seeds - 1)) * (drawn - equal)


def add_training_noise(
    log_value: Array, log_resampled: Array, fitted_log: Array, num_parameters: int, *, seed: int
) -> tuple[Array, float]:
    """Add to resampled curves [R, n] the scatter about a smooth fit that items do not explain.

    Returns the resamples and the noise level, the standard deviation of ln loss. The level is
    uncertain itself with few points, so draws are Student's t with the fit's degrees of freedom.
    """
    freedom = len(log_value) - num_parameters
    if freedom < 1:
        return log_resampled, 0.0
    scatter = float(((log_value - fitted_log) ** 2).sum()) / freedom
    excess = scatter - _unshared_item_variance(log_value, log_resampled)
    if excess <= 0:
        return log_resampled, 0.0
    rng = np.random.default_rng(seed)
    level = np.sqrt(excess)
    widening = np.sqrt(freedom / rng.chisquare(freedom, size=(len(log_resampled), 1)))
    noise = rng.normal(size=log_resampled.shape) * level * widening
    return log_resampled + noise, float(level)


def _unshared_item_variance(log_value: Array, log_resampled: Array) -> float:
    deviation = log_resampled - log_value
    shared = deviation.mean(axis=1, keepdims=True)
    return float(((deviation - shared) ** 2).sum(axis=1).mean()) / max(len(log_value) - 1, 1)
