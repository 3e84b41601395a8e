"""Minimise a Huber loss over many data sets or starting points at once, by damped Newton steps.

One call fits a whole batch: all starts of a multi-start, or all resamples of a bootstrap, advance
together in NumPy. The objective of every row is Σ_i w_i·huber_δ(y_i − f_i(θ)): the *sum*, since a
mean makes optimisers stop early (Besiroglu et al. 2024 on Hoffmann et al. 2022).
"""

# B batch rows, n points, K parameters

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PredictLog = Callable[[Array], tuple[Array, Array]]
"""θ_BK → predictions of the log loss [B, n] and their gradient by θ [B, n, K]."""

MAX_ITERATIONS = 300
SCREENING_ITERATIONS = 40
SETTLING_ITERATIONS = 150
NUM_SETTLED = 4
SHARE_TOLERANCE = 0.01  # a start "reaches the optimum" within 1 % of the best objective
TINY_OBJECTIVE = 1e-15  # exact points: every objective is rounding error
STEP_TOLERANCE = 1e-11
GAIN_TOLERANCE = 1e-12  # relative, in one step
INITIAL_DAMPING = 1.0
SMALLEST_DAMPING = 1e-9
LARGEST_DAMPING = 1e9
RIDGE = 1e-12  # keeps a direction that the data do not touch from being singular


@dataclass(frozen=True, slots=True)
class FitBatch:
    """Where every row of a batch ended: θ [B, K], the objective [B], whether it settled [B]."""

    theta: Array
    objective: Array
    converged: NDArray[np.bool_]
    num_iterations: int


def huber(residuals: Array, delta: float) -> Array:
    """r²/2 within ±δ, δ(|r| − δ/2) outside, elementwise."""
    size = np.abs(residuals)
    return np.where(size <= delta, 0.5 * residuals**2, delta * (size - 0.5 * delta))


def objective_and_gradient(
    predict: PredictLog, theta: Array, log_loss: Array, weights: Array, delta: float
) -> tuple[Array, Array]:
    """The objective [B] and its gradient [B, K] at θ [B, K]."""
    predicted, jacobian = predict(theta)
    residuals = log_loss - predicted
    objective = (weights * huber(residuals, delta)).sum(axis=-1)
    slope = weights * np.clip(residuals, -delta, delta)
    return objective, -np.einsum("bn,bnk->bk", slope, jacobian)


def minimise(
    predict: PredictLog,
    start: Array,
    log_loss: Array,
    *,
    delta: float,
    weights: Array | None = None,
    lower: Array | None = None,
    upper: Array | None = None,
    max_iterations: int = MAX_ITERATIONS,
) -> FitBatch:
    """Fit every row of a batch from its own start.

    The curvature is the Newton one (points within ±δ count) plus a damping multiple of the
    re-weighted least-squares one, which bounds the Huber loss from above: large damping gives a
    sure descent, small damping Newton's speed near the optimum.

    Args:
        predict: the model in logs.
        start: θ [B, K].
        log_loss: [B, n] or [n], natural logarithms.
        delta: δ of the Huber loss, in units of log loss.
        weights: [B, n], [n] or None for ones; resampling counts go here.
        lower, upper: box [K] or [B, K] that θ is kept in.
        max_iterations: rows that have not settled by then stay where they are.
    """
    shape = (len(start), log_loss.shape[-1])
    problem = _Problem(
        predict=predict,
        log_loss=np.broadcast_to(log_loss, shape),
        weights=np.broadcast_to(1.0 if weights is None else weights, shape),
        delta=delta,
        lower=np.broadcast_to(-np.inf if lower is None else lower, start.shape),
        upper=np.broadcast_to(np.inf if upper is None else upper, start.shape),
    )
    state = _State.begin(problem, problem.clip(start))
    num_iterations = 0
    while num_iterations < max_iterations and not state.converged.all():
        _advance(problem, state, np.flatnonzero(~state.converged))
        num_iterations += 1
    return FitBatch(state.theta, state.objective, state.converged, num_iterations)


@dataclass(frozen=True, slots=True)
class MultiStart:
    """The best optimum of many starts: θ [K], the objective, the share of starts that reach it."""

    theta: Array
    objective: float
    convergence_share: float


def multi_start(
    predict: PredictLog, starts: Array, log_loss: Array, *, delta: float, lower: Array, upper: Array
) -> list[MultiStart]:
    """Fit each of C data sets [C, n] from S starts of its own [C, S, K], all together.

    All starts advance a little, the best few of each data set then settle: a start that is behind
    by then does not count among those that reach the optimum (within 1 % of its objective).

    Args:
        predict: the model in logs, the same for all data sets.
        starts: [C, S, K].
        log_loss: [C, n].
        delta: δ of the Huber loss.
        lower, upper: boxes [C, K].
    """
    num_sets, num_starts, num_parameters = starts.shape
    rows = np.repeat(np.arange(num_sets), num_starts)
    first = minimise(
        predict, starts.reshape(-1, num_parameters), log_loss[rows], delta=delta,
        lower=lower[rows], upper=upper[rows], max_iterations=SCREENING_ITERATIONS,
    )  # fmt: skip
    objective = first.objective.reshape(num_sets, num_starts)
    leading = np.argsort(objective, axis=1)[:, :NUM_SETTLED]
    theta = first.theta.reshape(starts.shape)
    rows = np.repeat(np.arange(num_sets), leading.shape[1])
    last = minimise(
        predict, theta[rows, leading.ravel()], log_loss[rows], delta=delta,
        lower=lower[rows], upper=upper[rows], max_iterations=SETTLING_ITERATIONS,
    )  # fmt: skip
    settled = last.objective.reshape(leading.shape)
    np.put_along_axis(objective, leading, settled, axis=1)
    best = settled.argmin(axis=1)
    found = last.theta.reshape(*leading.shape, num_parameters)
    lowest = settled.min(axis=1)
    reached = objective <= lowest[:, None] * (1 + SHARE_TOLERANCE) + TINY_OBJECTIVE
    return [
        MultiStart(found[index, best[index]], float(lowest[index]), float(reached[index].mean()))
        for index in range(num_sets)
    ]


@dataclass(frozen=True, slots=True)
class _Problem:
    predict: PredictLog
    log_loss: Array
    weights: Array
    delta: float
    lower: Array
    upper: Array

    def rows(self, indices: NDArray[np.intp]) -> _Problem:
        if len(indices) == len(self.log_loss):
            return self
        return replace(
            self,
            log_loss=self.log_loss[indices],
            weights=self.weights[indices],
            lower=self.lower[indices],
            upper=self.upper[indices],
        )

    def clip(self, theta: Array) -> Array:
        return np.minimum(np.maximum(theta, self.lower), self.upper)

    def objective(self, theta: Array) -> Array:
        """Infinite where the model overflows: such a place is never taken."""
        residuals = self.log_loss - self.predict(theta)[0]
        objective = (self.weights * huber(residuals, self.delta)).sum(axis=-1)
        return np.where(np.isfinite(objective), objective, np.inf)


@dataclass(slots=True)
class _State:
    theta: Array
    objective: Array
    damping: Array
    converged: NDArray[np.bool_]

    @classmethod
    def begin(cls, problem: _Problem, theta: Array) -> _State:
        objective = problem.objective(theta)
        return cls(
            theta=theta.copy(),
            objective=objective,
            damping=np.full(len(theta), INITIAL_DAMPING),
            converged=~np.isfinite(objective),
        )


def _advance(problem: _Problem, state: _State, active: NDArray[np.intp]) -> None:
    problem = problem.rows(active)
    theta, before = state.theta[active], state.objective[active]
    trial = problem.clip(theta + _damped_step(problem, theta, state.damping[active]))
    objective = problem.objective(trial)
    better = objective < before
    state.theta[active[better]] = trial[better]
    state.objective[active[better]] = objective[better]
    damping = np.where(better, state.damping[active] * 0.2, state.damping[active] * 5.0)
    tiny_step = np.abs(trial - theta).max(axis=-1) <= STEP_TOLERANCE * (
        1.0 + np.abs(theta).max(axis=-1)
    )
    no_gain = better & (before - objective <= GAIN_TOLERANCE * before) & (damping < INITIAL_DAMPING)
    state.converged[active] = tiny_step | no_gain | (damping > LARGEST_DAMPING)
    state.damping[active] = np.clip(damping, SMALLEST_DAMPING, 10 * LARGEST_DAMPING)


def _damped_step(problem: _Problem, theta: Array, damping: Array) -> Array:
    predicted, jacobian = problem.predict(theta)
    residuals, delta = problem.log_loss - predicted, problem.delta
    size = np.abs(residuals)
    pull = problem.weights * np.clip(residuals, -delta, delta)
    descent = np.einsum("bn,bnk->bk", pull, jacobian)
    majorant = np.minimum(1.0, delta / np.maximum(size, delta))
    curvature = problem.weights * ((size <= delta) + damping[:, None] * majorant)
    hessian = np.matmul(jacobian.transpose(0, 2, 1) * curvature[:, None, :], jacobian)
    # A parameter pressed against its bound takes no part in the step.
    blocked = ((theta <= problem.lower) & (descent < 0)) | (
        (theta >= problem.upper) & (descent > 0)
    )
    hessian[blocked] = 0.0
    hessian.transpose(0, 2, 1)[blocked] = 0.0
    descent[blocked] = 0.0
    index = np.arange(theta.shape[1])
    scale = hessian[:, index, index].max(axis=-1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)
    hessian[:, index, index] += np.where(blocked, scale, RIDGE * scale)
    return np.linalg.solve(hessian, descent[..., None])[..., 0]
