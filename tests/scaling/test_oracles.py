"""The joint law against published numbers, closed forms, and facts that any fit must obey."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimise

from scaling.curve_forms import FORMS
from scaling.joint_law import (
    JointPoints,
    bootstrap_joint,
    compute_exponent,
    compute_optimal,
    fit_joint,
    joint_objective,
)
from scaling.power_law import fit_curve, held_out_error
from scaling.robust_fit import minimise, objective_and_gradient
from worldpm.errors import FitError

HOFFMANN_DELTA = 1e-3
# Besiroglu et al. 2024, notebook cell 26: 95 % intervals of 4,000 resamples.
EPOCH_BOUNDS = {"E": (1.769, 1.871), "alpha": (0.317, 0.373), "beta": (0.331, 0.415)}
SURFACES = [
    {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},  # Hoffmann et al. 2022
    {"E": 1.817, "A": 482.0, "B": 2085.0, "alpha": 0.348, "beta": 0.366},  # Besiroglu et al. 2024
    {"E": 0.31, "A": 12.0, "B": 3.5, "alpha": 0.21, "beta": 0.12},  # the shape of a reward loss
]


@pytest.fixture(scope="module")
def all_points(shared_data: Path) -> JointPoints:
    with (shared_data / "chinchilla" / "svg_extracted_data.csv").open() as file:
        rows = list(csv.DictReader(file))
    num_params = np.array([float(row["Model Size"]) for row in rows])
    flops = np.array([float(row["Training FLOP"]) for row in rows])
    loss = np.array([float(row["loss"]) for row in rows])
    return JointPoints(num_params, flops / (6 * num_params), loss)


@pytest.fixture(scope="module")
def chinchilla(all_points: JointPoints) -> JointPoints:
    kept = all_points.loss < np.sort(all_points.loss)[-5]
    return JointPoints(
        all_points.num_params[kept], all_points.num_samples[kept], all_points.loss[kept]
    )


def _surface(truth: dict[str, float], points: JointPoints) -> JointPoints:
    loss = (
        truth["E"]
        + truth["A"] * points.num_params ** -truth["alpha"]
        + truth["B"] * points.num_samples ** -truth["beta"]
    )
    return JointPoints(points.num_params, points.num_samples, loss)


def _grid() -> JointPoints:
    num_params, num_samples = np.meshgrid(np.geomspace(1e8, 1e10, 7), np.geomspace(1e9, 1e11, 8))
    return JointPoints(num_params.ravel(), num_samples.ravel(), np.ones(num_params.size))


@pytest.mark.shared_data
def test_chinchilla_gives_the_published_constants(chinchilla: JointPoints) -> None:
    fit = fit_joint(chinchilla, delta=HOFFMANN_DELTA)
    assert fit.num_points == 240
    assert fit.parameters["alpha"] == pytest.approx(0.3473, abs=5e-4)
    assert fit.parameters["beta"] == pytest.approx(0.3672, abs=5e-4)
    assert fit.parameters["E"] == pytest.approx(1.8172, abs=5e-4)
    assert fit.parameters["A"] == pytest.approx(477.84, rel=1e-3)
    assert fit.parameters["B"] == pytest.approx(2143.86, rel=1e-3)
    assert fit.objective == pytest.approx(0.00101827, abs=1e-7)
    assert fit.convergence_share > 0.85
    assert fit.bounds_hit == ()


@pytest.mark.shared_data
def test_all_245_rows_give_the_other_published_fit(all_points: JointPoints) -> None:
    fit = fit_joint(all_points, delta=HOFFMANN_DELTA)
    assert fit.objective == pytest.approx(0.0018260, abs=2e-7)
    assert fit.parameters["alpha"] == pytest.approx(0.3493, abs=5e-4)
    assert fit.parameters["beta"] == pytest.approx(0.4530, abs=5e-4)


@pytest.mark.shared_data
def test_the_printed_constants_of_the_original_paper_score_worse(chinchilla: JointPoints) -> None:
    unrounded = {
        "A": np.exp(6.0073404), "B": np.exp(6.0179186), "E": np.exp(0.5267228),
        "alpha": 0.33917084, "beta": 0.2849083,
    }  # fmt: skip
    rounded = {"A": 406.4, "B": 410.7, "E": 1.69, "alpha": 0.34, "beta": 0.28}
    best = fit_joint(chinchilla, delta=HOFFMANN_DELTA)
    scores = [
        joint_objective(parameters, chinchilla, delta=HOFFMANN_DELTA)
        for parameters in (best.parameters, unrounded, rounded)
    ]
    assert scores == pytest.approx([0.00101827, 0.0012312, 0.0041210], abs=1e-7)


@pytest.mark.shared_data
def test_bootstrap_bounds_agree_with_the_published_ones(chinchilla: JointPoints) -> None:
    fit = fit_joint(chinchilla, delta=HOFFMANN_DELTA)
    resampled = bootstrap_joint(fit, chinchilla, delta=HOFFMANN_DELTA, num_resamples=1000, seed=0)
    columns = dict(zip(fit.parameters, resampled.T, strict=True))
    for name, bounds in EPOCH_BOUNDS.items():
        assert np.percentile(columns[name], [2.5, 97.5]) == pytest.approx(bounds, rel=0.05)
    exponent = compute_exponent(resampled[:, 3], resampled[:, 4])
    assert exponent.std(ddof=1) == pytest.approx(0.020, abs=0.002)


@pytest.mark.shared_data
def test_scipy_finds_no_better_optimum(chinchilla: JointPoints) -> None:
    fit = fit_joint(chinchilla, delta=HOFFMANN_DELTA)

    def objective(log_parameters: np.ndarray) -> float:
        e, a, b, alpha, beta = log_parameters
        parameters = {"E": np.exp(e), "A": np.exp(a), "B": np.exp(b), "alpha": alpha, "beta": beta}
        return 1e4 * joint_objective(parameters, chinchilla, delta=HOFFMANN_DELTA)

    start = [*np.log([fit.parameters[name] for name in ("E", "A", "B")])]
    start += [fit.parameters["alpha"], fit.parameters["beta"]]
    found = scipy_minimise(objective, start, method="Nelder-Mead", options={"maxiter": 400})
    assert found.fun >= 1e4 * fit.objective * (1 - 1e-6)


@pytest.mark.parametrize("truth", SURFACES)
def test_exact_points_give_back_their_law(truth: dict[str, float]) -> None:
    fit = fit_joint(_surface(truth, _grid()), delta=HOFFMANN_DELTA)
    for name, value in truth.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-5)


def test_order_of_rows_and_units_change_no_prediction() -> None:
    points = _surface(SURFACES[0], _grid())
    noisy = JointPoints(
        points.num_params,
        points.num_samples,
        points.loss * np.exp(np.random.default_rng(0).normal(0, 0.005, points.loss.size)),
    )
    order = np.random.default_rng(1).permutation(points.loss.size)
    moved = JointPoints(
        noisy.num_params[order] / 1e6, noisy.num_samples[order] / 1e9, noisy.loss[order]
    )
    one, other = (fit_joint(these, delta=HOFFMANN_DELTA) for these in (noisy, moved))
    assert other.predict(np.array([50.0]), np.array([300.0])) == pytest.approx(
        one.predict(np.array([5e7]), np.array([3e11])), rel=1e-7
    )
    assert other.parameters["alpha"] == pytest.approx(one.parameters["alpha"], rel=1e-6)


def test_the_frontier_is_the_minimum_over_sizes_at_equal_compute() -> None:
    truth = SURFACES[1]
    num_params, num_samples = compute_optimal(truth, np.array([1e21]), 6.0)
    fit = fit_joint(_surface(truth, _grid()), delta=HOFFMANN_DELTA)
    others = num_params * np.geomspace(0.25, 4, 41)
    losses = fit.predict(others, 1e21 / 6 / others)
    assert 6 * num_params * num_samples == pytest.approx(1e21)
    assert int(losses.argmin()) == 20


@pytest.mark.parametrize("form", FORMS.values(), ids=lambda form: form.name)
def test_analytic_gradients_equal_finite_differences(form) -> None:
    rng = np.random.default_rng(3)
    num_samples = np.geomspace(100, 1e5, 12)
    x = np.log(num_samples) - np.log(num_samples).mean()
    y = np.log(0.5 + 3 * num_samples**-0.4) + rng.normal(0, 0.02, 12)
    theta = form.starts(x, y)[:2] + rng.normal(0, 0.01, (2, form.num_parameters))
    predict = lambda values: form.predict_log(values, x)  # noqa: E731
    weights = rng.uniform(0.5, 2, 12)
    _, gradient = objective_and_gradient(predict, theta, y, weights, 0.01)
    step = 1e-6
    for column in range(form.num_parameters):
        moved = np.zeros(form.num_parameters)
        moved[column] = step
        above, _ = objective_and_gradient(predict, theta + moved, y, weights, 0.01)
        below, _ = objective_and_gradient(predict, theta - moved, y, weights, 0.01)
        assert gradient[:, column] == pytest.approx(
            (above - below) / (2 * step), rel=2e-4, abs=1e-8
        )


def test_batch_and_single_fits_agree() -> None:
    form = FORMS["offset_power"]
    x = np.linspace(-3, 3, 9)
    rng = np.random.default_rng(0)
    y = np.log(0.4 + 0.3 * np.exp(-0.4 * x)) + rng.normal(0, 0.01, (5, 9))
    start = np.repeat(np.array([[np.log(0.4), np.log(0.3), 0.4]]), 5, axis=0)
    predict = lambda theta: form.predict_log(theta, x)  # noqa: E731
    together = minimise(predict, start, y, delta=0.01).theta
    alone = [minimise(predict, start[:1], row, delta=0.01).theta[0] for row in y]
    assert together == pytest.approx(np.array(alone), abs=1e-7)


def test_a_planted_break_is_found_and_predicts_the_held_out_end() -> None:
    # The shape of the four-digit-addition curve of Caballero et al. 2023: flat, then a steep fall,
    # 17 points, of which the last three are held out.
    num_samples = np.linspace(160, 928, 17)
    place, width = 520.0, 0.08
    truth = 0.4 + 1.75 * (1 + (num_samples / place) ** (1 / width)) ** (-3.0 * width)
    loss = truth * np.exp(np.random.default_rng(0).normal(0, 0.004, 17))
    broken = fit_curve(FORMS["broken_power"], num_samples[:14], loss[:14], delta=0.01)
    pure = fit_curve(FORMS["pure_power"], num_samples[:14], loss[:14], delta=0.01)
    assert broken.parameters["break_at"] == pytest.approx(place, rel=0.1)
    assert broken.aicc is not None
    assert pure.aicc is not None
    assert broken.aicc < pure.aicc - 10
    errors = [
        held_out_error(FORMS[name], num_samples, loss, delta=0.01, num_held=3)
        for name in ("broken_power", "pure_power")
    ]
    assert errors[0] is not None
    assert errors[1] is not None
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize(
    ("name", "noise", "at_least"),
    # Rates at which AICc picks the true form, measured once on 9 checkpoints up to 15 M pairs:
    # .88, .99 and 1.00; three standard errors of 60 draws below.
    [("constant", 0.003, 0.75), ("pure_power", 0.003, 0.93), ("offset_power", 0.001, 0.95)],
)
def test_aicc_picks_the_true_form_as_often_as_published(name, noise, at_least) -> None:
    num_samples = np.geomspace(6e4, 1.5e7, 9)
    truth = {
        "constant": np.full(9, 0.6),
        "pure_power": 0.60 * (num_samples / 6e4) ** -0.04,
        "offset_power": 0.45 + 0.20 * (num_samples / 6e4) ** -0.15,
    }[name]
    rng = np.random.default_rng(5)
    picked = 0
    for _ in range(60):
        loss = truth + rng.normal(0, noise, 9)
        scores = {
            other: fit_curve(FORMS[other], num_samples, loss, delta=0.01).aicc
            for other in ("constant", "pure_power", "offset_power")
        }
        picked += min(scores, key=lambda other: scores[other] or np.inf) == name
    assert picked / 60 >= at_least


@pytest.mark.parametrize(
    ("num_params", "num_samples", "loss", "message"),
    [
        ([1, 2, 3, 4] * 3, [1, 2, 3] * 4, [0.5, 0.6] * 6, "at least 5 sizes, found 4"),
        ([1, 2, 3, 4, 5] * 2, [7, 8] * 5, [0.5, 0.6] * 5, "at least 3 sample counts"),
        (range(1, 9), range(20, 180, 20), [0.9, 0.8] * 4, "move together"),
        ([1, 2, 3, 4, 5] * 3, [1, 2, 3] * 5, [0.5] * 15, "all losses are equal"),
        ([1, 2, 3, 4, 5] * 3, [1, 2, 3] * 5, [0.5, 0.6, np.nan] * 5, "finite"),
        ([1, 2, 3, 4, 5] * 3, [1, 2, -3] * 5, [0.5, 0.6, 0.7] * 5, "above 0"),
    ],
)
def test_degenerate_points_are_refused_by_name(num_params, num_samples, loss, message) -> None:
    points = JointPoints(
        *(np.array(list(column), float) for column in (num_params, num_samples, loss))
    )
    with pytest.raises(FitError, match=message):
        fit_joint(points, delta=HOFFMANN_DELTA)


def test_short_and_equal_curves_are_refused_by_name() -> None:
    with pytest.raises(FitError, match="offset_power needs 4 points, found 3"):
        fit_curve(FORMS["offset_power"], np.array([1.0, 2, 3]), np.array([3.0, 2, 1]), delta=0.01)
    with pytest.raises(FitError, match="same number of samples"):
        fit_curve(FORMS["pure_power"], np.ones(5), np.arange(1.0, 6.0), delta=0.01)
