"""Estimates, temperature, calibration and tests against closed forms and published examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.statistics import (
    NUM_FOLDS,
    Stratum,
    best_temperature,
    calibration_bins,
    cross_fitted_temperature_losses,
    expected_calibration_error,
    folds,
    holm,
    mcnemar_p_value,
    stratified_estimate,
)
from worldpm.metrics import bradley_terry_losses


def _stratum(values, weight: float = 1.0) -> Stratum:
    values = np.asarray(values, np.float64)
    return Stratum(values, np.ones(len(values)), weight)


def _estimate(strata):
    return stratified_estimate(strata, num_bootstrap=2000, generator=np.random.default_rng(0))


def test_a_single_stratum_gives_the_mean_and_its_standard_error():
    values = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    estimate = _estimate([_stratum(values)])
    assert estimate.value == pytest.approx(2 / 3)
    assert estimate.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(6))


def test_the_bootstrap_interval_matches_the_normal_one_for_many_items():
    values = np.random.default_rng(1).random(4000) < 0.7
    estimate = _estimate([_stratum(values)])
    low, high = estimate.interval
    half = 1.96 * math.sqrt(estimate.value * (1 - estimate.value) / 4000)
    assert low == pytest.approx(estimate.value - half, abs=0.003)
    assert high == pytest.approx(estimate.value + half, abs=0.003)


def test_continuous_values_are_resampled_too():
    values = np.random.default_rng(2).normal(1.0, 2.0, 1000)
    low, high = _estimate([_stratum(values)]).interval
    assert high - low == pytest.approx(2 * 1.96 * 2.0 / math.sqrt(1000), rel=0.15)


def test_strata_count_by_weight_and_not_by_size():
    estimate = _estimate([_stratum([1.0] * 90 + [0.0] * 10), _stratum([0.0, 0.0, 1.0, 1.0], 3.0)])
    assert estimate.value == pytest.approx((0.9 + 3 * 0.5) / 4)


def test_one_item_has_no_error():
    estimate = _estimate([_stratum([1.0])])
    assert (estimate.standard_error, estimate.interval) == (None, None)


def test_sizes_make_a_ratio_of_sums():
    estimate = _estimate([Stratum(np.array([1.0, 6.0]), np.array([1.0, 9.0]), 1.0)])
    assert estimate.value == pytest.approx(0.7)


@given(st.floats(0.05, 20), st.floats(0.1, 10))
def test_rescaling_scores_rescales_the_best_temperature_inversely(factor, noise):
    margins = np.random.default_rng(3).normal(noise, 2 * noise, 300)
    assert best_temperature(factor * margins) == pytest.approx(
        best_temperature(margins) / factor, rel=1e-6
    )


def test_the_best_temperature_has_no_slope_and_recovers_a_planted_one():
    generator = np.random.default_rng(4)
    strength = generator.normal(0, 2, 20000)
    # σ(0.5 · margin) is the true probability of the sign.
    sign = np.where(generator.random(20000) < 1 / (1 + np.exp(-0.5 * strength)), 1, -1)
    assert best_temperature(sign * strength) == pytest.approx(0.5, rel=0.05)


def test_margins_that_help_nothing_get_temperature_zero_and_loss_log_two():
    margins = np.array([-1.0, -2.0, 0.5] * 10)
    assert best_temperature(margins) == 0
    losses = cross_fitted_temperature_losses(margins, np.arange(30))
    assert losses.mean() == pytest.approx(math.log(2))


def test_margins_that_are_all_right_lose_nothing_at_their_best():
    margins = np.array([0.1, 0.2, 0.3])
    assert bradley_terry_losses(best_temperature(margins) * margins).max() < 1e-6


def test_folds_split_items_evenly_and_keep_an_item_together():
    items = np.repeat(np.arange(23), 9)
    fold = folds(items)
    assert {len(set(fold[items == item])) for item in range(23)} == {1}
    sizes = np.bincount(fold[::9], minlength=NUM_FOLDS)
    assert sizes.max() - sizes.min() <= 1


def test_calibration_of_a_model_that_is_right_as_often_as_it_says():
    # σ(log 3) = 0.75: three of four are right.
    margins = np.array([1.0, 1.0, 1.0, -1.0] * 25) * math.log(3)
    assert expected_calibration_error(calibration_bins(margins)) == pytest.approx(0, abs=1e-12)


def test_calibration_error_of_overconfidence_is_its_excess():
    margins = np.array([1.0, -1.0] * 50) * math.log(9)
    bins = calibration_bins(margins)
    assert [one.num_pairs for one in bins] == [100]
    assert expected_calibration_error(bins) == pytest.approx(0.4)


def test_calibration_counts_every_pair_once_also_certain_ones():
    margins = np.array([0.0, 1e9, -1e9, 0.3])
    assert sum(one.num_pairs for one in calibration_bins(margins)) == 4


def test_mcnemar_is_the_sign_test_of_the_discordant_items():
    # 2 · P(X ≤ 1), X ~ Binomial(8, ½) = 2 · 9/256
    assert mcnemar_p_value(1, 7) == pytest.approx(2 * 9 / 256)
    assert mcnemar_p_value(7, 1) == mcnemar_p_value(1, 7)
    assert mcnemar_p_value(0, 0) == 1.0
    assert mcnemar_p_value(5, 5) == 1.0


def test_holm_of_a_worked_example():
    # Sorted .005 .01 .03 .04 times 4 3 2 1, made monotone.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
