"""`worldpm scaling fit`: a law fitted to the points of a CSV file, written to `fits.json`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.config import FitConfig, PredictionPoint
from scaling.curve_forms import FORMS, Form
from scaling.joint_law import (
    PARAMETER_NAMES,
    JointFit,
    JointPoints,
    bootstrap_joint,
    compute_exponent,
    fit_joint,
    joint_loss,
)
from scaling.points import read_points
from scaling.power_law import CurveFit, check_points, fit_curve, held_out_error, refit_resamples
from scaling.resampling import draw_counts
from scaling.robust_fit import Array
from worldpm.artifacts import write_json
from worldpm.errors import ConfigError, FitError

FITS_FILE = "fits.json"
JOINT_COLUMNS = ("num_params", "num_samples", "loss")
CURVE_COLUMNS = ("num_samples", "loss")


def run_fit(config: FitConfig, config_path: Path) -> dict[str, Any]:
    """Fit what `config` asks for and write `output_dir/fits.json`; return what was written.

    Raises:
        InputError: the points cannot be read.
        FitError: they do not determine the law.
    """
    command = [
        "worldpm", "scaling", "fit", str(config_path), f"law={config.law}",
        f"input={config.input}", f"output_dir={config.output_dir}",
        f"huber_delta={config.huber_delta!r}", f"drop_highest_losses={config.drop_highest_losses}",
        f"bootstrap.num_resamples={config.bootstrap.num_resamples}",
        f"bootstrap.confidence={config.bootstrap.confidence!r}",
        f"bootstrap.seed={config.bootstrap.seed}",
        f"max_extrapolation_factor={config.max_extrapolation_factor!r}",
        f"predict_at={json.dumps([point.model_dump() for point in config.predict_at])}",
    ]  # fmt: skip
    result = _fit_joint_file(config) if config.law == "joint" else _fit_curve_file(config)
    result["command"] = shlex.join(command)
    write_json(config.output_dir / FITS_FILE, result)
    return result


def percentile_interval(values: Array, confidence: float) -> list[float]:
    """The central interval of resampled values [R] that holds `confidence` of them."""
    tail = 100 * (1 - confidence) / 2
    return [float(bound) for bound in np.percentile(values, [tail, 100 - tail])]


def describe_joint(
    fit: JointFit, points: JointPoints, resampled: Array, *, confidence: float
) -> dict[str, Any]:
    """The joint fit with its intervals from resampled parameters [R, 5], for JSON."""
    exponents = compute_exponent(resampled[:, 3], resampled[:, 4])
    alpha, beta = fit.parameters["alpha"], fit.parameters["beta"]
    return {
        "law": "joint",
        "form": "loss = E + A / num_params^alpha + B / num_samples^beta",
        **fit.parameters,
        "objective": fit.objective,
        "intervals": {
            name: percentile_interval(resampled[:, column], confidence)
            for column, name in enumerate(PARAMETER_NAMES)
        },
        "standard_errors": {
            name: float(resampled[:, column].std(ddof=1))
            for column, name in enumerate(PARAMETER_NAMES)
        },
        "compute_optimal_size_exponent": {
            "value": float(compute_exponent(np.array(alpha), np.array(beta))),
            "interval": percentile_interval(exponents, confidence),
        },
        "num_points": fit.num_points,
        "num_sizes": fit.num_sizes,
        "ranges": {
            "num_params": _range(points.num_params),
            "num_samples": _range(points.num_samples),
            "loss": _range(points.loss),
        },
        "convergence_share": fit.convergence_share,
        "bounds_hit": list(fit.bounds_hit),
        "condition_number": fit.condition_number,
        "rms_residual": fit.rms_residual,
        "cautions": fit.cautions,
    }


def describe_curve(fit: CurveFit, held_out: float | None) -> dict[str, Any]:
    """One fitted form, for JSON."""
    return {
        "parameters": dict(fit.parameters),
        "objective": fit.objective,
        "rss": fit.rss,
        "aicc": fit.aicc,
        "bic": fit.bic,
        "held_out_error": held_out,
        "convergence_share": fit.convergence_share,
        "bounds_hit": list(fit.bounds_hit),
        "condition_number": fit.condition_number,
    }


def _fit_joint_file(config: FitConfig) -> dict[str, Any]:
    columns = read_points(config.input, JOINT_COLUMNS)
    kept = _below_highest(columns["loss"], config.drop_highest_losses)
    points = JointPoints(*(columns[name][kept] for name in JOINT_COLUMNS))
    wanted = [_joint_target(point, points, config) for point in config.predict_at]
    fit = fit_joint(points, delta=config.huber_delta)
    resampled = bootstrap_joint(
        fit,
        points,
        delta=config.huber_delta,
        num_resamples=config.bootstrap.num_resamples,
        seed=config.bootstrap.seed,
    )
    confidence = config.bootstrap.confidence
    result = describe_joint(fit, points, resampled, confidence=confidence)
    result["predictions"] = [
        {
            "num_params": num_params,
            "num_samples": num_samples,
            "loss": float(fit.predict(np.array([num_params]), np.array([num_samples]))[0]),
            "interval": percentile_interval(
                joint_loss(resampled, num_params, num_samples), confidence
            ),
        }
        for num_params, num_samples in wanted
    ]
    return result | _common(config, kept)


def _fit_curve_file(config: FitConfig) -> dict[str, Any]:
    columns = read_points(config.input, CURVE_COLUMNS)
    kept = _below_highest(columns["loss"], config.drop_highest_losses)
    order = np.lexsort((columns["loss"][kept], columns["num_samples"][kept]))
    num_samples, loss = columns["num_samples"][kept][order], columns["loss"][kept][order]
    check_points(num_samples, loss, at_least=3, what="a curve")
    for point in config.predict_at:
        _refuse_far(point.num_samples, num_samples, config, "num_samples")
    forms: dict[str, Any] = {}
    drawn = draw_counts(
        np.random.default_rng(config.bootstrap.seed), config.bootstrap.num_resamples, len(loss)
    )
    for form in FORMS.values():
        if len(loss) < form.num_parameters + 1:
            forms[form.name] = {"refused": f"{form.num_parameters + 1} points are needed"}
            continue
        forms[form.name] = _fit_form(form, num_samples, loss, drawn, config)
    return {
        "law": "curve",
        "forms": forms,
        "best_by_aicc": best_form(forms, "aicc"),
        "best_by_bic": best_form(forms, "bic"),
        "num_points": len(loss),
        "ranges": {"num_samples": _range(num_samples), "loss": _range(loss)},
    } | _common(config, kept)


def _fit_form(
    form: Form, num_samples: Array, loss: Array, drawn: Array, config: FitConfig
) -> dict[str, Any]:
    fit = fit_curve(form, num_samples, loss, delta=config.huber_delta)
    held = held_out_error(form, num_samples, loss, delta=config.huber_delta)
    losses = np.repeat(loss[None], len(drawn), axis=0)
    theta_RK = refit_resamples(fit, num_samples, losses, delta=config.huber_delta, weights=drawn)
    natural_RK = form.natural(theta_RK, fit.centre)
    confidence = config.bootstrap.confidence
    predictions = [
        {
            "num_samples": point.num_samples,
            "loss": float(fit.predict(np.array([point.num_samples]))[0]),
            "interval": percentile_interval(
                np.exp(
                    form.predict_log(theta_RK, np.array([np.log(point.num_samples) - fit.centre]))[
                        0
                    ][:, 0]
                ),
                confidence,
            ),
        }
        for point in config.predict_at
    ]
    return describe_curve(fit, held) | {
        "intervals": {
            name: percentile_interval(natural_RK[:, column], confidence)
            for column, name in enumerate(form.parameter_names)
        },
        "predictions": predictions,
    }


def _common(config: FitConfig, kept: NDArray[np.bool_]) -> dict[str, Any]:
    confidence, count = config.bootstrap.confidence, config.bootstrap.num_resamples
    return {
        "objective_definition": f"sum of Huber(delta={config.huber_delta!r}) of errors of ln loss",
        "interval_definition": f"{confidence:.0%}, {count} resamples of points, percentiles, "
        f"seed {config.bootstrap.seed}",
        "dropped": {"highest_losses": int((~kept).sum())},
    }


def _joint_target(
    point: PredictionPoint, points: JointPoints, config: FitConfig
) -> tuple[float, float]:
    if point.num_params is None:
        raise ConfigError("predict_at: a point of the joint law needs num_params too")
    _refuse_far(point.num_params, points.num_params, config, "num_params")
    _refuse_far(point.num_samples, points.num_samples, config, "num_samples")
    return point.num_params, point.num_samples


def _refuse_far(value: float, seen: Array, config: FitConfig, name: str) -> None:
    factor = config.max_extrapolation_factor
    if value > factor * seen.max():
        raise FitError(
            f"predict_at: {name} {value:g} is {value / seen.max():.1f} times the largest that was "
            f"measured, {seen.max():g}; the limit is max_extrapolation_factor = {factor:g}"
        )


def best_form(forms: dict[str, Any], criterion: str) -> str | None:
    """The form of the lowest AICc or BIC among those for which it is defined."""
    scored = {
        name: form[criterion] for name, form in forms.items() if form.get(criterion) is not None
    }
    return min(scored, key=lambda name: scored[name]) if scored else None


def _below_highest(loss: Array, num_dropped: int) -> NDArray[np.bool_]:
    if num_dropped == 0:
        return np.ones(len(loss), dtype=np.bool_)
    if num_dropped >= len(loss):
        raise FitError(f"drop_highest_losses is {num_dropped}, the file has {len(loss)} points")
    return loss < np.sort(loss)[-num_dropped]


def _range(values: Array) -> list[float]:
    return [float(values.min()), float(values.max())]
