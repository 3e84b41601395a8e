"""The joint law loss(N, D) = E + A/N^α + B/D^β, and the compute-optimal frontier it implies.

Objective and oracle: Hoffmann et al. 2022 as re-done by Besiroglu et al. 2024: Σ Huber_δ of the
error of ln loss, a sum and not a mean, every digit reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from scaling.power_law import RESAMPLE_ITERATIONS, bounds_hit, condition_number
from scaling.robust_fit import Array, PredictLog, huber, minimise, multi_start
from worldpm.errors import FitError

PARAMETER_NAMES = ("E", "A", "B", "alpha", "beta")
MIN_SIZES = 5  # below five sizes the size exponent is not identified (Choshen et al. 2024)
MIN_SCALES = 3
COLLINEAR = 0.999
MAX_CONDITION = 1e5
MAX_RESIDUAL = 0.03
FLOPS_PER_PARAM_SAMPLE = 6.0  # C = 6·N·D for tokens


@dataclass(frozen=True, slots=True)
class JointPoints:
    """Losses [n] of models of N parameters [n] after D samples [n]."""

    num_params: Array
    num_samples: Array
    loss: Array

    def ordered(self) -> JointPoints:
        """The points in one fixed order, so that no result depends on the order of rows."""
        order = np.lexsort((self.loss, self.num_samples, self.num_params))
        return JointPoints(self.num_params[order], self.num_samples[order], self.loss[order])


@dataclass(frozen=True, slots=True)
class JointFit:
    """The fitted law; `theta` = (e, a, b, α, β) in centred logs, `parameters` natural units."""

    theta: tuple[float, ...]
    centres: tuple[float, float]
    parameters: Mapping[str, float]
    objective: float
    num_points: int
    num_sizes: int
    convergence_share: float
    bounds_hit: tuple[str, ...]
    condition_number: float
    rms_residual: float  # of ln loss

    @property
    def cautions(self) -> list[str]:
        """Why the parameters should not be read as a law, if they should not."""
        found = [f"{name} rests on the edge of its range" for name in self.bounds_hit]
        if min(self.parameters["alpha"], self.parameters["beta"]) <= 0:
            found.append("an exponent is not above 0")
        if self.condition_number > MAX_CONDITION:
            found.append("the points do not tell the parameters apart")
        if self.rms_residual > MAX_RESIDUAL:
            found.append(f"it misses the points by {self.rms_residual:.0%} (root mean square)")
        return found

    def predict(self, num_params: Array, num_samples: Array) -> Array:
        """The fitted loss at N [n] and D [n]."""
        predict = _predictor(
            np.log(num_params) - self.centres[0], np.log(num_samples) - self.centres[1]
        )
        return np.exp(predict(np.array([self.theta]))[0][0])


def fit_joint(points: JointPoints, *, delta: float) -> JointFit:
    """Fit the law from a grid of starts.

    Args:
        points: at least five sizes and three sample counts.
        delta: δ of the Huber loss on ln loss; the published value is 1e-3.

    Raises:
        FitError: too few sizes, scales or points; sizes and samples that move together; values
            that are not finite and positive.
    """
    check_joint_points(points)
    points = points.ordered()
    log_n, log_d, y = np.log(points.num_params), np.log(points.num_samples), np.log(points.loss)
    centres = float(log_n.mean()), float(log_d.mean())
    predict = _predictor(log_n - centres[0], log_d - centres[1])
    lower, upper = _bounds(y)
    best = multi_start(
        predict, _starts(y)[None], y[None], delta=delta, lower=lower[None], upper=upper[None]
    )[0]
    theta = best.theta
    predicted, jacobian = predict(theta[None])
    return JointFit(
        theta=tuple(theta.tolist()),
        centres=centres,
        parameters=dict(
            zip(PARAMETER_NAMES, natural_parameters(theta[None], centres)[0].tolist(), strict=True)
        ),
        objective=best.objective,
        num_points=len(y),
        num_sizes=len(np.unique(points.num_params)),
        convergence_share=best.convergence_share,
        bounds_hit=bounds_hit(PARAMETER_NAMES, theta, lower, upper),
        condition_number=condition_number(jacobian[0]),
        rms_residual=float(np.sqrt(((y - predicted[0]) ** 2).mean())),
    )


def bootstrap_joint(
    fit: JointFit, points: JointPoints, *, delta: float, num_resamples: int, seed: int
) -> Array:
    """Natural parameters [R, 5] of fits to resampled points (rows drawn with replacement)."""
    points = points.ordered()
    count = len(points.loss)
    drawn = np.random.default_rng(seed).multinomial(
        count, np.full(count, 1 / count), size=num_resamples
    )
    return refit_joint(fit, points, np.log(points.loss), drawn.astype(float), delta=delta)


def refit_joint(
    fit: JointFit, points: JointPoints, log_losses: Array, weights: Array | None, *, delta: float
) -> Array:
    """Natural parameters [R, 5] for resampled losses [R, n] or weights [R, n] of given points."""
    rows = len(log_losses) if log_losses.ndim == 2 else len(np.atleast_2d(weights))  # type: ignore[arg-type]
    predict = _predictor(
        np.log(points.num_params) - fit.centres[0], np.log(points.num_samples) - fit.centres[1]
    )
    lower, upper = _bounds(np.log(points.loss))
    start = np.repeat(np.array([fit.theta]), rows, axis=0)
    batch = minimise(
        predict, start, log_losses, delta=delta, weights=weights, lower=lower, upper=upper,
        max_iterations=RESAMPLE_ITERATIONS,
    )  # fmt: skip
    return natural_parameters(batch.theta, fit.centres)


def joint_objective(parameters: Mapping[str, float], points: JointPoints, *, delta: float) -> float:
    """The objective at given natural parameters: to compare published constants."""
    predicted = (
        parameters["E"]
        + parameters["A"] * points.num_params ** -parameters["alpha"]
        + parameters["B"] * points.num_samples ** -parameters["beta"]
    )
    return float(huber(np.log(points.loss) - np.log(predicted), delta).sum())


def joint_loss(parameters: Array, num_params: float, num_samples: float) -> Array:
    """The law's loss [R] at one N and D for natural parameters (E, A, B, α, β) [R, 5]."""
    floor, size, data, alpha, beta = parameters.T
    return floor + size * num_params**-alpha + data * num_samples**-beta


def compute_exponent(alpha: Array, beta: Array) -> Array:
    """a = β/(α + β): the compute-optimal size grows like C^a (Hoffmann et al., equation 4)."""
    return beta / (alpha + beta)


def compute_optimal(
    parameters: Mapping[str, float], flops: Array, flops_per_param_sample: float
) -> tuple[Array, Array]:
    """The size N [n] and sample count D [n] of least loss at compute C = k·N·D = `flops` [n]."""
    alpha, beta = parameters["alpha"], parameters["beta"]
    ratio = (alpha * parameters["A"] / (beta * parameters["B"])) ** (1 / (alpha + beta))
    budget = flops / flops_per_param_sample
    num_params = ratio * budget ** (beta / (alpha + beta))
    return num_params, budget / num_params


def check_joint_points(points: JointPoints) -> None:
    """Raise FitError for points from which the law is not identified."""
    columns = (points.num_params, points.num_samples, points.loss)
    if not all(np.isfinite(column).all() and (column > 0).all() for column in columns):
        raise FitError("the joint law needs finite sizes, samples and losses above 0")
    num_sizes, num_scales = len(np.unique(points.num_params)), len(np.unique(points.num_samples))
    if num_sizes < MIN_SIZES:
        raise FitError(
            f"the joint law needs at least {MIN_SIZES} sizes, found {num_sizes}: "
            "add sizes, or fit one curve a size"
        )
    if num_scales < MIN_SCALES:
        raise FitError(
            f"the joint law needs at least {MIN_SCALES} sample counts, found {num_scales}"
        )
    if len(points.loss) <= len(PARAMETER_NAMES) + 1:
        raise FitError(f"the joint law has 5 parameters, {len(points.loss)} points are too few")
    if np.ptp(np.log(points.loss)) == 0:
        raise FitError("all losses are equal: there is no law to fit")
    correlation = np.corrcoef(np.log(points.num_params), np.log(points.num_samples))[0, 1]
    if abs(correlation) > COLLINEAR:
        raise FitError(
            "sizes and samples move together (correlation of their logs "
            f"{correlation:.4f}): their exponents cannot be told apart; vary one at fixed other"
        )


def natural_parameters(theta: Array, centres: tuple[float, float]) -> Array:
    """(E, A, B, α, β) [R, 5] from centred logs [R, 5]."""
    e, a, b, alpha, beta = theta.T
    return np.stack(
        [np.exp(e), np.exp(a + alpha * centres[0]), np.exp(b + beta * centres[1]), alpha, beta], 1
    )


def _predictor(log_n: Array, log_d: Array) -> PredictLog:
    def predict(theta: Array) -> tuple[Array, Array]:
        by_size = theta[:, 1:2] - theta[:, 3:4] * log_n
        by_data = theta[:, 2:3] - theta[:, 4:5] * log_d
        floor = np.broadcast_to(theta[:, :1], by_size.shape)
        highest = np.maximum(np.maximum(by_size, by_data), floor)
        shares = [np.exp(term - highest) for term in (floor, by_size, by_data)]
        total = shares[0] + shares[1] + shares[2]
        floor_share, size_share, data_share = (share / total for share in shares)
        gradient = [floor_share, size_share, data_share, -size_share * log_n, -data_share * log_d]
        return highest + np.log(total), np.stack(gradient, axis=-1)

    return predict


def _starts(y: Array) -> Array:
    lowest = y.min()
    shares, exponents = (-2.5, -0.8), (0.1, 0.3, 0.7)
    grid = product((-2.0, -0.1), shares, shares, exponents, exponents)
    return np.array(
        [
            [lowest + floor, lowest + size, lowest + data, alpha, beta]
            for floor, size, data, alpha, beta in grid
        ]
    )


def _bounds(y: Array) -> tuple[Array, Array]:
    lower = np.array([y.min() - 12.0, y.min() - 25.0, y.min() - 25.0, -1.0, -1.0])
    return lower, np.array([y.max(), y.max() + 10.0, y.max() + 10.0, 5.0, 5.0])
