"""Loss at the best temperature and with style controlled, cross-fitted over items."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from eval.style_control import fit_style
from scaling.collect import Point, ScoreTable
from scaling.loss_series import (
    STYLE_PRIOR_DEVIATION,
    assign_folds,
    cross_fitted_margins,
    fit_margin_scale,
    item_losses,
    relative_difference,
)
from worldpm.metrics import bradley_terry_losses, pair_metrics


def _table(margins: np.ndarray, items: np.ndarray | None = None) -> ScoreTable:
    num_points, num_pairs = margins.shape
    items = np.arange(num_pairs) if items is None else items
    return ScoreTable(
        test_set="set",
        kind="objective",
        points=tuple(
            Point("run", "a", 10, 9, 0, step, 64 * 2**step, 1, 1.0) for step in range(num_points)
        ),
        item_ids=tuple(str(item) for item in np.unique(items)),
        item_Q=items,
        chosen_Q=np.zeros(num_pairs, np.int64),
        rejected_Q=np.ones(num_pairs, np.int64),
        chosen_tokens_Q=np.full(num_pairs, 10.0),
        rejected_tokens_Q=np.full(num_pairs, 12.0),
        weight_Q=np.ones(num_pairs),
        margin_PQ=margins,
    )


def test_the_scale_is_the_one_that_scipy_finds() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(0.4, 1.0, (3, 500))
    features = rng.normal(size=(500, 2))
    found = fit_margin_scale(margins, features, np.ones(500))
    for row, theta in zip(margins, found, strict=True):
        best = minimize(
            lambda t, row=row: (
                bradley_terry_losses(t[0] * row + features @ t[1:]).mean()
                + 0.5 * (t[1:] @ t[1:]) / (500 * STYLE_PRIOR_DEVIATION**2)
            ),
            np.zeros(3),
        )
        assert theta == pytest.approx(best.x, abs=2e-4)
        assert theta[0] == pytest.approx(fit_style_alpha(row, features), rel=2e-2)


def fit_style_alpha(row: np.ndarray, features: np.ndarray) -> float:
    four = np.concatenate([features, np.zeros((len(row), 2))], axis=1)
    return fit_style(row, four, ("length", "lists")).alpha


def test_scaling_all_margins_leaves_the_loss_at_best_temperature_unchanged() -> None:
    margins = np.random.default_rng(1).normal(0.5, 1.0, (1, 400))
    one = item_losses(_table(margins), np.zeros((400, 0)))
    ten = item_losses(_table(10 * margins), np.zeros((400, 0)))
    assert ten.mean_loss("temperature") == pytest.approx(one.mean_loss("temperature"), abs=1e-6)
    assert ten.mean_loss("raw")[0] > one.mean_loss("raw")[0] + 0.1


def test_a_reversed_ranking_is_no_better_than_chance() -> None:
    margins = np.random.default_rng(1).normal(-0.8, 1.0, (1, 400))
    losses = item_losses(_table(margins), np.zeros((400, 0)))
    assert losses.mean_loss("temperature")[0] == pytest.approx(np.log(2), abs=1e-6)


def test_cross_fitting_leaks_no_label_through_noise_features() -> None:
    rng = np.random.default_rng(2)
    num_pairs = 150
    margins = rng.normal(0.0, 1.0, (1, num_pairs))
    noise = rng.normal(size=(num_pairs, 40))
    in_sample = fit_margin_scale(margins, noise, np.ones(num_pairs))[0]
    fitted = in_sample[0] * margins[0] + noise @ in_sample[1:]
    crossed = cross_fitted_margins(margins, noise, np.ones(num_pairs), assign_folds(num_pairs))[0]
    assert bradley_terry_losses(fitted).mean() < np.log(2) - 0.05
    assert bradley_terry_losses(crossed).mean() > np.log(2)


def test_a_feature_that_one_pair_shows_cannot_cost_much() -> None:
    rng = np.random.default_rng(3)
    rare = np.zeros((150, 1))
    rare[7], rare[11] = np.sqrt(75.0), -np.sqrt(75.0)
    margins = rng.normal(0.3, 1.0, (1, 150))
    plain, controlled = (
        cross_fitted_margins(margins, features, np.ones(150), assign_folds(150))[0]
        for features in (rare[:, :0], rare)
    )
    losses = [bradley_terry_losses(found).mean() for found in (plain, controlled)]
    assert losses[1] < losses[0] + 0.03


def test_ties_count_one_half_and_means_equal_the_shared_metrics() -> None:
    margins = np.array([[0.0, 1.0, -2.0, 0.0, 3.0, 0.5]])
    items = np.array([0, 0, 1, 2, 3, 3])
    losses = item_losses(_table(margins, items), np.zeros((6, 0)))
    metrics = pair_metrics([str(item) for item in items], margins[0], np.zeros(6))
    assert losses.accuracy()[0] == pytest.approx((0.5 + 1 + 0 + 0.5 + 1 + 1) / 6)
    assert losses.accuracy()[0] == pytest.approx(metrics.accuracy)
    assert losses.mean_loss("raw")[0] == pytest.approx(metrics.bt_loss)


def test_swapping_a_pair_flips_its_style_difference() -> None:
    chosen, rejected = np.array([10.0, 0, 7]), np.array([20.0, 0, 7])
    assert relative_difference(chosen, rejected) == pytest.approx(
        -relative_difference(rejected, chosen)
    )
    assert relative_difference(chosen, rejected)[1:].tolist() == [0, 0]
