"""Joint resampling of items and seeds, and what its intervals promise."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from scaling.analysis import SMOOTH_FORMS, analyse_curve, noisy_resamples
from scaling.collect import Point
from scaling.config import BootstrapConfig, RulesConfig
from scaling.curve_forms import FORMS
from scaling.power_law import fit_curve
from scaling.resampling import (
    add_training_noise,
    make_curves,
    resample_item_means,
    seed_weights,
)
from scaling.verdict import Trend, holm, judge, trend

BOOTSTRAP = BootstrapConfig(num_resamples=300)
RULES = RulesConfig()


def _points(num_checkpoints: int, seeds: tuple[int, ...] = (0,), size: str = "a") -> list[Point]:
    return [
        Point(f"{size}-{seed}", size, 1000, 900, seed, step, 64 * 2**step, 1, 1.0)
        for seed in seeds
        for step in range(num_checkpoints)
    ]


def test_item_bootstrap_equals_brute_force_on_a_tiny_case() -> None:
    sums = np.array([[1.0, 2.0, 6.0]])
    weights = np.array([1.0, 2.0, 3.0])
    exact = [
        sums[0, list(drawn)].sum() / weights[list(drawn)].sum()
        for drawn in product(range(3), repeat=3)
    ]
    (means,) = resample_item_means([sums], weights, num_resamples=40_000, seed=0)
    assert set(np.round(means[:, 0], 9)) == set(np.round(exact, 9))
    assert means.mean() == pytest.approx(np.mean(exact), abs=0.005)
    assert means.std() == pytest.approx(np.std(exact), rel=0.02)


def test_the_standard_error_of_a_mean_is_the_textbook_one() -> None:
    values = np.random.default_rng(1).normal(0.6, 0.5, (1, 1000))
    (means,) = resample_item_means([values], np.ones(1000), num_resamples=2000, seed=0)
    assert means.std() == pytest.approx(0.5 / np.sqrt(1000), rel=0.06)  # 0.016 at 1,000 pairs


def test_resamples_in_several_batches_use_every_series_alike(monkeypatch) -> None:
    values = np.random.default_rng(1).normal(0.6, 0.5, (2, 50))
    monkeypatch.setattr("scaling.resampling.MAX_DRAWS_AT_ONCE", 500)
    one, twice = resample_item_means([values, 2 * values], np.ones(50), num_resamples=64, seed=3)
    assert one.shape == (64, 2)
    assert twice == pytest.approx(2 * one)


def test_shared_item_noise_cancels_in_the_trend() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 0.5, (1, 400))
    losses = 0.7 + np.repeat(shared, 6, axis=0) + rng.normal(0, 0.05, (6, 400))
    curve = _curve(losses)
    result = analyse_curve(curve, BOOTSTRAP, RULES)
    assert result.tendency is not None
    band = (result.bands[1] - result.bands[0]).mean()
    width = np.diff(result.tendency.interval)[0] * np.log(curve.num_samples).std()
    assert width < band / 4


def _curve(losses: np.ndarray, seeds: tuple[int, ...] = (0,), num_resamples: int = 300):
    (means,) = resample_item_means(
        [losses], np.ones(losses.shape[1]), num_resamples=num_resamples, seed=7
    )
    points = _points(len(losses) // len(seeds), seeds)
    return make_curves(points, losses.mean(1), means, seed=7)[0]


def _simulate(rng: np.random.Generator, slope: float, training_noise: float):
    num_items, checkpoints = 300, 9
    log_d = np.log(64 * 2.0 ** np.arange(checkpoints))
    level = 0.65 * np.exp(slope * (log_d - log_d.mean()))
    level = level * np.exp(rng.normal(0, training_noise, checkpoints))
    shared = rng.normal(0, 0.4, num_items)
    own = rng.normal(0, 0.15, (checkpoints, num_items))
    return level[:, None] * (1 + shared + own)


def _simulated_trend(rng: np.random.Generator, slope: float, training_noise: float) -> Trend:
    curve = _curve(_simulate(rng, slope, training_noise), num_resamples=200)
    fits = {
        name: fit_curve(FORMS[name], curve.num_samples, curve.value, delta=RULES.curve_delta)
        for name in SMOOTH_FORMS
    }
    noisy, _ = noisy_resamples(curve, fits, BOOTSTRAP)
    return trend(np.log(curve.num_samples), np.log(curve.value), noisy, confidence=0.95)


@pytest.mark.parametrize("training_noise", [0.0, 0.01])
def test_intervals_of_the_slope_cover_the_truth(training_noise: float) -> None:
    rng = np.random.default_rng(11)
    covered, trials = 0, 200
    for _ in range(trials):
        tendency = _simulated_trend(rng, -0.03, training_noise)
        covered += tendency.interval[0] <= -0.03 <= tendency.interval[1]
    assert 0.90 <= covered / trials <= 0.98


@pytest.mark.parametrize("training_noise", [0.0, 0.01])
def test_flat_truth_is_called_falling_at_most_one_time_in_eight(training_noise: float) -> None:
    rng = np.random.default_rng(12)
    falls, trials = 0, 150
    for _ in range(trials):
        tendency = _simulated_trend(rng, 0.0, training_noise)
        verdict, _ = judge(
            tendency,
            adjusted_p=tendency.p_value,
            num_points=9,
            breaks=False,
            flat_slope=RULES.flat_slope,
            confidence=0.95,
        )
        falls += verdict == "falls"
    assert falls / trials <= 0.12


def test_seed_weights_have_the_variance_of_a_mean_over_seeds() -> None:
    rng = np.random.default_rng(0)
    weights = seed_weights(rng, 20_000, 3)
    assert weights.sum(axis=1) == pytest.approx(np.ones(20_000))
    values = np.array([0.1, -0.4, 0.3])
    assert (weights @ values).std() == pytest.approx(values.std(ddof=1) / np.sqrt(3), rel=0.02)
    assert (seed_weights(rng, 5, 1) == 1).all()


def test_a_curve_keeps_only_what_every_seed_was_evaluated_at() -> None:
    points = [*_points(4, (0,)), *_points(3, (1,))]
    curve = make_curves(points, np.arange(7.0), np.tile(np.arange(7.0), (50, 1)), seed=0)[0]
    assert curve.num_samples.tolist() == [64, 128, 256]
    assert curve.value.tolist() == [(0 + 4) / 2, (1 + 5) / 2, (2 + 6) / 2]
    assert curve.seeds == (0, 1)


def test_scatter_that_items_explain_adds_no_training_noise() -> None:
    rng = np.random.default_rng(0)
    log_value = rng.normal(0, 0.01, 9)
    resampled = log_value + rng.normal(0, 0.02, (500, 9))
    same, level = add_training_noise(log_value, resampled, np.zeros(9), 2, seed=0)
    assert level == 0.0
    assert same is resampled
    widened, level = add_training_noise(log_value * 10, resampled, np.zeros(9), 2, seed=0)
    assert level > 0.03
    assert widened.std() > resampled.std()


def test_holm_corrects_step_by_step() -> None:
    # Holm 1979: 0.01·4, max(0.02·3), max(0.03·2), max(0.04·1) with running maxima.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
