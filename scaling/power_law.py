"""Fit the loss of one test set and one size against the number of training pairs D: five forms.

| form           | loss(D)                                       | parameters |
|----------------|-----------------------------------------------|------------|
| constant       | level                                         | 1          |
| log_linear     | level − slope·ln D                            | 2          |
| pure_power     | B·D^−β                                        | 2          |
| offset_power   | E + B·D^−β                                    | 3          |
| broken_power   | E + B·D^−c0·(1 + (D/d)^(1/f))^(−c1·f)         | 6          |

The last is the broken neural scaling law with one break (Caballero et al. 2023). All are fitted on
ln loss with a summed Huber loss, in ln D centred on the points, from many starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from scaling.robust_fit import Array, MultiStart, minimise, multi_start
from worldpm.errors import FitError

RSS_FLOOR = 1e-24  # a fit through exact points: keeps its criteria finite
RESAMPLE_ITERATIONS = 60  # from the optimum of the sample itself
MIN_LEVEL = 1e-3  # a log-linear line may not cross zero inside the points


@dataclass(frozen=True, slots=True)
class Form:
    """A family of curves in x = ln D − centre; `predict_log` maps θ [B, K] and x [n] to logs."""

    name: str
    parameter_names: tuple[str, ...]
    predict_log: Callable[[Array, Array], tuple[Array, Array]]
    starts: Callable[[Array, Array], Array]
    bounds: Callable[[Array, Array], tuple[Array, Array]]
    natural: Callable[[Array, float], Array]

    @property
    def num_parameters(self) -> int:
        """Fitted parameters of the curve, the noise's not among them."""
        return len(self.parameter_names)


@dataclass(frozen=True, slots=True)
class CurveFit:
    """One form fitted to one curve; `theta` is in centred units, `parameters` in natural ones."""

    form: str
    theta: tuple[float, ...]
    centre: float
    parameters: Mapping[str, float]
    objective: float
    num_points: int
    rss: float
    aicc: float | None
    bic: float
    convergence_share: float
    bounds_hit: tuple[str, ...]
    condition_number: float

    def predict(self, num_samples: Array) -> Array:
        """The fitted loss at D = `num_samples` [n]."""
        x = np.log(num_samples) - self.centre
        return np.exp(FORMS[self.form].predict_log(np.array([self.theta]), x)[0][0])


def fit_curve(form: Form, num_samples: Array, loss: Array, *, delta: float) -> CurveFit:
    """Fit one form to one curve.

    Args:
        form: one of `FORMS`.
        num_samples: D [n], pairs seen.
        loss: [n], positive.
        delta: δ of the Huber loss on ln loss.

    Raises:
        FitError: fewer points than parameters + 1, equal D everywhere, or values that are not
            finite and positive.
    """
    return fit_curves(form, num_samples, loss[None], delta=delta)[0]


def fit_curves(form: Form, num_samples: Array, losses: Array, *, delta: float) -> list[CurveFit]:
    """Fit one form to C curves [C, n] with the same D [n], all at once; see `fit_curve`."""
    for loss in losses:
        check_points(num_samples, loss, at_least=form.num_parameters + 1, what=form.name)
    log_samples, log_losses = np.log(num_samples), np.log(losses)
    centre = float(log_samples.mean())
    x = log_samples - centre
    bounds = [form.bounds(x, y) for y in log_losses]
    found = multi_start(
        lambda theta: form.predict_log(theta, x),
        np.stack([form.starts(x, y) for y in log_losses]),
        log_losses,
        delta=delta,
        lower=np.stack([lower for lower, _ in bounds]),
        upper=np.stack([upper for _, upper in bounds]),
    )
    return [
        _describe(form, best, x, y, centre=centre, box=box)
        for best, y, box in zip(found, log_losses, bounds, strict=True)
    ]


def _describe(
    form: Form, best: MultiStart, x: Array, y: Array, *, centre: float, box: tuple[Array, Array]
) -> CurveFit:
    theta = best.theta
    predicted, jacobian = form.predict_log(theta[None], x)
    rss = max(float(((y - predicted[0]) ** 2).sum()), RSS_FLOOR)
    aicc, bic = information_criteria(rss, len(y), form.num_parameters)
    natural = form.natural(theta[None], centre)[0].tolist()
    return CurveFit(
        form=form.name,
        theta=tuple(theta.tolist()),
        centre=centre,
        parameters=dict(zip(form.parameter_names, natural, strict=True)),
        objective=best.objective,
        num_points=len(y),
        rss=rss,
        aicc=aicc,
        bic=bic,
        convergence_share=best.convergence_share,
        bounds_hit=bounds_hit(form.parameter_names, theta, *box),
        condition_number=condition_number(jacobian[0]),
    )


def refit_resamples(
    fit: CurveFit,
    num_samples: Array,
    losses: Array,
    *,
    delta: float,
    weights: Array | None = None,
) -> Array:
    """Refit a form to resampled curves, each from the fit of the real one.

    Args:
        fit: of the curve itself.
        num_samples: D [n].
        losses: [R, n], one resample a row.
        weights: [R, n], how often each point was drawn where points are resampled.

    Returns:
        θ [R, K] in the centred units of `fit`.
    """
    form = FORMS[fit.form]
    x, y = np.log(num_samples) - fit.centre, np.log(losses)
    lower, upper = form.bounds(x, y)
    start = np.repeat(np.array([fit.theta]), len(losses), axis=0)
    return minimise(
        lambda theta: form.predict_log(theta, x),
        start,
        y,
        delta=delta,
        lower=lower,
        upper=upper,
        weights=weights,
        max_iterations=RESAMPLE_ITERATIONS,
    ).theta


def held_out_error(
    form: Form, num_samples: Array, loss: Array, *, delta: float, num_held: int = 2
) -> float | None:
    """RMS error of ln loss at the `num_held` largest D, predicted from the rest.

    None where the rest is too short for the form.
    """
    return held_out_errors(form, num_samples, loss[None], delta=delta, num_held=num_held)[0]


def held_out_errors(
    form: Form, num_samples: Array, losses: Array, *, delta: float, num_held: int = 2
) -> list[float | None]:
    """The same for C curves [C, n] with the same D [n]."""
    scales = np.unique(num_samples)
    fitted = num_samples < scales[-min(num_held, len(scales))]
    if len(np.unique(num_samples[fitted])) < max(form.num_parameters + 1, 2):
        return [None] * len(losses)
    fits = fit_curves(form, num_samples[fitted], losses[:, fitted], delta=delta)
    errors = [
        np.log(loss[~fitted]) - np.log(fit.predict(num_samples[~fitted]))
        for fit, loss in zip(fits, losses, strict=True)
    ]
    return [float(np.sqrt((error**2).mean())) for error in errors]


def information_criteria(
    rss: float, num_points: int, num_parameters: int
) -> tuple[float | None, float]:
    """AICc and BIC under Gaussian errors of ln loss; AICc is None where it is not defined."""
    count = num_parameters + 1  # the noise level is estimated too
    deviance = num_points * np.log(rss / num_points)
    bic = float(deviance + count * np.log(num_points))
    spare = num_points - count - 1
    if spare <= 0:
        return None, bic
    return float(deviance + 2 * count + 2 * count * (count + 1) / spare), bic


def bounds_hit(names: tuple[str, ...], theta: Array, lower: Array, upper: Array) -> tuple[str, ...]:
    """Names of the parameters that rest on a bound of their box."""
    margin = 1e-9 * (1 + np.abs(theta))
    return tuple(
        name
        for name, hit in zip(
            names, (theta <= lower + margin) | (theta >= upper - margin), strict=True
        )
        if hit
    )


def condition_number(jacobian: Array) -> float:
    """Of the design [n, K] with its columns scaled to length 1; 1e16 stands for singular."""
    lengths = np.linalg.norm(jacobian, axis=0)
    if (lengths == 0).any():
        return 1e16
    return float(min(np.linalg.cond(jacobian / lengths), 1e16))


def check_points(num_samples: Array, loss: Array, *, at_least: int, what: str) -> None:
    """Raise FitError for points that no form can be fitted to."""
    if not (np.isfinite(num_samples).all() and np.isfinite(loss).all()):
        raise FitError(f"{what}: a number of samples or a loss is not finite; remove that point")
    if (num_samples <= 0).any() or (loss <= 0).any():
        raise FitError(
            f"{what}: samples and losses must be above 0 to be fitted in logs; "
            "leave out the evaluation before the first step"
        )
    if len(loss) < at_least:
        raise FitError(f"{what} needs {at_least} points, found {len(loss)}: evaluate more often")
    if len(np.unique(num_samples)) < 2 <= at_least:
        raise FitError(f"{what}: all points have the same number of samples, so nothing can vary")


def _constant(theta: Array, x: Array) -> tuple[Array, Array]:
    level = np.repeat(theta, len(x), axis=1)
    return level, np.ones((len(theta), len(x), 1))


def _pure_power(theta: Array, x: Array) -> tuple[Array, Array]:
    predicted = theta[:, :1] - theta[:, 1:2] * x
    jacobian = np.stack([np.ones_like(predicted), np.broadcast_to(-x, predicted.shape)], axis=-1)
    return predicted, jacobian


def _log_linear(theta: Array, x: Array) -> tuple[Array, Array]:
    level = np.maximum(theta[:, :1] - theta[:, 1:2] * x, MIN_LEVEL)
    above = level > MIN_LEVEL
    jacobian = np.stack([above / level, above * (-x) / level], axis=-1)
    return np.log(level), jacobian


def _offset_power(theta: Array, x: Array) -> tuple[Array, Array]:
    power = theta[:, 1:2] - theta[:, 2:3] * x
    predicted = np.logaddexp(theta[:, :1], power)
    share = np.exp(power - predicted)
    return predicted, np.stack([1 - share, share, -share * x], axis=-1)


def _broken_power(theta: Array, x: Array) -> tuple[Array, Array]:
    # theta: e, b, c0, c1, ln of the break, ln of its width
    width = np.exp(theta[:, 5:6])
    distance = (x - theta[:, 4:5]) / width
    soft = np.logaddexp(0.0, distance)
    bent = np.exp(distance - soft)  # the share of the second branch, 0 to 1
    power = theta[:, 1:2] - theta[:, 2:3] * x - theta[:, 3:4] * width * soft
    predicted = np.logaddexp(theta[:, :1], power)
    share = np.exp(power - predicted)
    gradient = [
        1 - share,
        share,
        -share * x,
        -share * width * soft,
        share * theta[:, 3:4] * bent,
        -share * theta[:, 3:4] * width * (soft - bent * distance),
    ]
    return predicted, np.stack(gradient, axis=-1)


def _line_starts(_: Array, y: Array) -> Array:
    return np.array([[y.mean(), slope] for slope in (0.0, 0.05, 0.3, -0.05)])


def _level_starts(_: Array, y: Array) -> Array:
    level = np.exp(y).mean()
    return np.array([[level, slope * level] for slope in (0.0, 0.01, 0.1, -0.01)])


def _offset_starts(x: Array, y: Array) -> Array:
    lowest, exponents = np.exp(y.min()), (0.03, 0.1, 0.3, 0.8, -0.1)
    starts: list[list[float]] = []
    for fraction, exponent in product((0.01, 0.3, 0.6, 0.9, 0.99), exponents):
        above = np.log(np.maximum(np.exp(y) - fraction * lowest, 1e-9))
        starts.append([np.log(fraction * lowest), (above + exponent * x).mean(), exponent])
    return np.array(starts)


def _broken_starts(x: Array, y: Array) -> Array:
    lowest, starts = np.exp(y.min()), list[list[float]]()
    places = np.quantile(x, (0.25, 0.5, 0.75))
    grid = product((0.01, 0.8), places, (0.0, 0.2), (0.3, 1.5, -0.3), (-1.5, 0.0))
    for fraction, place, before, after, log_width in grid:
        above = np.log(np.maximum(np.exp(y) - fraction * lowest, 1e-9))
        bend = after * np.exp(log_width) * np.logaddexp(0.0, (x - place) / np.exp(log_width))
        level = (above + before * x + bend).mean()
        starts.append([np.log(fraction * lowest), level, before, after, place, log_width])
    return np.array(starts)


def _offset_bounds(_: Array, y: Array) -> tuple[Array, Array]:
    lower = np.array([y.min() - 12.0, y.min() - 25.0, -3.0])
    return lower, np.array([y.max(), y.max() + 10.0, 5.0])


def _broken_bounds(x: Array, y: Array) -> tuple[Array, Array]:
    # The break stays inside the points: a break outside them is not seen, it is made up.
    lower = np.array([y.min() - 12.0, y.min() - 25.0, -3.0, -10.0, x.min(), -4.0])
    return lower, np.array([y.max(), y.max() + 25.0, 5.0, 10.0, x.max(), 2.0])


def _unbounded(num_parameters: int) -> Callable[[Array, Array], tuple[Array, Array]]:
    edge = np.full(num_parameters, np.inf)
    return lambda _x, _y: (-edge, edge)


def _natural_broken(theta: Array, centre: float) -> Array:
    e, b, c0, c1, place, log_width = theta.T
    scale = b + c0 * centre
    return np.stack(
        [np.exp(e), np.exp(scale), c0, c1, np.exp(place + centre), np.exp(log_width)], axis=1
    )


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form(
            "constant",
            ("level",),
            _constant,
            lambda _, y: np.array([[y.mean()], [np.median(y)]]),
            _unbounded(1),
            lambda theta, _: np.exp(theta),
        ),
        Form(
            "log_linear",
            ("level_at_one", "slope"),
            _log_linear,
            _level_starts,
            _unbounded(2),
            lambda theta, centre: np.stack([theta[:, 0] + theta[:, 1] * centre, theta[:, 1]], 1),
        ),
        Form(
            "pure_power",
            ("B", "beta"),
            _pure_power,
            _line_starts,
            _unbounded(2),
            lambda theta, centre: np.stack(
                [np.exp(theta[:, 0] + theta[:, 1] * centre), theta[:, 1]], 1
            ),
        ),
        Form(
            "offset_power",
            ("E", "B", "beta"),
            _offset_power,
            _offset_starts,
            _offset_bounds,
            lambda theta, centre: np.stack(
                [np.exp(theta[:, 0]), np.exp(theta[:, 1] + theta[:, 2] * centre), theta[:, 2]], 1
            ),
        ),
        Form(
            "broken_power",
            ("E", "B", "c0", "c1", "break_at", "width"),
            _broken_power,
            _broken_starts,
            _broken_bounds,
            _natural_broken,
        ),
    )
}
