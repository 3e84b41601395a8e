"""`worldpm scaling fit`: a law fitted to the points of a CSV file, written to `fits.json`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np

from scaling.config import FitConfig
from scaling.joint_law import (
    PARAMETER_NAMES,
    JointPoints,
    bootstrap_joint,
    compute_exponent,
    fit_joint,
)
from scaling.points import read_points
from scaling.power_law import FORMS, CurveFit, check_points, fit_curve, held_out_error
from scaling.robust_fit import Array
from worldpm.artifacts import write_json
from worldpm.errors import FitError

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
    points: JointPoints, *, delta: float, num_resamples: int, confidence: float, seed: int
) -> dict[str, Any]:
    """The joint fit, its intervals over resampled points and its diagnostics, for JSON."""
    fit = fit_joint(points, delta=delta)
    resampled = bootstrap_joint(fit, points, delta=delta, num_resamples=num_resamples, seed=seed)
    exponents = compute_exponent(resampled[:, 3], resampled[:, 4])
    alpha, beta = fit.parameters["alpha"], fit.parameters["beta"]
    return {
        "law": "joint",
        "form": "loss = E + A / num_params^alpha + B / num_samples^beta",
        **fit.parameters,
        "objective": fit.objective,
        "objective_definition": f"sum of Huber(delta={delta!r}) of the error of ln loss",
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
        "interval_definition": f"{confidence:.0%}, {num_resamples} resamples of points, "
        f"percentiles, seed {seed}",
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
    result = describe_joint(
        points,
        delta=config.huber_delta,
        num_resamples=config.bootstrap.num_resamples,
        confidence=config.bootstrap.confidence,
        seed=config.bootstrap.seed,
    )
    result["dropped"] = {"highest_losses": int((~kept).sum())}
    return result


def _fit_curve_file(config: FitConfig) -> dict[str, Any]:
    columns = read_points(config.input, CURVE_COLUMNS)
    kept = _below_highest(columns["loss"], config.drop_highest_losses)
    num_samples, loss = columns["num_samples"][kept], columns["loss"][kept]
    check_points(num_samples, loss, at_least=3, what="a curve")
    forms: dict[str, Any] = {}
    for form in FORMS.values():
        if len(loss) < form.num_parameters + 1:
            forms[form.name] = {"refused": f"{form.num_parameters + 1} points are needed"}
            continue
        fit = fit_curve(form, num_samples, loss, delta=config.huber_delta)
        held = held_out_error(form, num_samples, loss, delta=config.huber_delta)
        forms[form.name] = describe_curve(fit, held)
    return {
        "law": "curve",
        "forms": forms,
        "best_by_aicc": best_form(forms, "aicc"),
        "best_by_bic": best_form(forms, "bic"),
        "num_points": len(loss),
        "ranges": {"num_samples": _range(num_samples), "loss": _range(loss)},
        "dropped": {"highest_losses": int((~kept).sum())},
    }


def best_form(forms: dict[str, Any], criterion: str) -> str | None:
    """The form of the lowest AICc or BIC among those for which it is defined."""
    scored = {
        name: form[criterion] for name, form in forms.items() if form.get(criterion) is not None
    }
    return min(scored, key=lambda name: scored[name]) if scored else None


def _below_highest(loss: Array, num_dropped: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    if num_dropped == 0:
        return np.ones(len(loss), dtype=np.bool_)
    if num_dropped >= len(loss):
        raise FitError(f"drop_highest_losses is {num_dropped}, the file has {len(loss)} points")
    return loss < np.sort(loss)[-num_dropped]


def _range(values: Array) -> list[float]:
    return [float(values.min()), float(values.max())]
