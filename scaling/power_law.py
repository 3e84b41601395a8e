"""Fit the loss of one test set and one size against the number of training pairs D.

Every form of `curve_forms` is fitted on ln loss with a summed Huber loss, in ln D centred on the
points, from many starts; information criteria and held-out errors compare them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.curve_forms import FORMS, Form
from scaling.robust_fit import Array, MultiStart, minimise, multi_start
from worldpm.errors import FitError

RSS_FLOOR = 1e-24  # a fit through exact points: keeps its criteria finite
RESAMPLE_ITERATIONS = 60  # from the optimum of the sample itself


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
