"""The analyses as plain JSON values: `fits.json`, and the data of the page's interactive charts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaling.analysis import CurveAnalysis, JointAnalysis, SeriesAnalysis, SetAnalysis
from scaling.fit import describe_curve
from scaling.iso_flop import IsoFlopLaw
from scaling.style import StyleReading


def describe_set(one_set: SetAnalysis, commands: dict[str, str]) -> dict[str, Any]:
    """Everything fitted and concluded on one test set; `commands` re-derive it."""
    return {
        "kind": one_set.kind,
        "num_items": one_set.num_items,
        "num_pairs": one_set.num_pairs,
        "commands": commands,
        "series": {name: _series(series) for name, series in one_set.series.items()},
        "accuracy": {
            analysis.curve.size: {**_points(analysis), **_trend(analysis)}
            for analysis in one_set.accuracy
        },
        "calibration": list(one_set.calibration),
    }


def describe_iso_flop(law: IsoFlopLaw) -> dict[str, Any]:
    """Profiles and the exponent of the best size."""
    return {
        "size_exponent": law.size_exponent,
        "size_exponent_interval": None if law.interval is None else list(law.interval),
        "refused": law.reason or None,
        "profiles": [
            {
                "flops": profile.flops,
                "num_params": profile.num_params.tolist(),
                "loss": profile.loss.tolist(),
                "coefficients": list(profile.coefficients),
                "optimal_params": profile.optimal_params,
                "reason": profile.reason or None,
            }
            for profile in law.profiles
        ],
    }


def describe_style(reading: StyleReading) -> dict[str, Any]:
    """φ coefficients and split accuracies of all evaluations."""
    return dataclasses.asdict(reading)


def chart_data(sets: Sequence[SetAnalysis]) -> list[dict[str, Any]]:
    """What the page's charts draw: for every test set and reading, curves with their bands."""
    return [
        {
            "name": one_set.test_set,
            "kind": one_set.kind,
            "readings": {
                **{name: _chart(series.curves) for name, series in one_set.series.items()},
                "accuracy": _chart(one_set.accuracy),
            },
        }
        for one_set in sets
    ]


def _chart(curves: Sequence[CurveAnalysis]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for analysis in curves:
        curve = analysis.curve
        line: dict[str, Any] = {
            "size": curve.size,
            "x": curve.num_samples.tolist(),
            "y": _rounded(curve.value),
            "low": _rounded(analysis.bands[0]),
            "high": _rounded(analysis.bands[1]),
        }
        if analysis.selected is not None:
            grid = np.geomspace(curve.num_samples.min(), curve.num_samples.max(), 40)
            line["law_x"] = _rounded(grid)
            line["law_y"] = _rounded(analysis.fits[analysis.selected].predict(grid))
            line["law"] = analysis.selected
        if analysis.evidence:
            line["verdict"] = analysis.verdict
        lines.append(line)
    return lines


def _rounded(values: np.ndarray[Any, Any]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _series(series: SeriesAnalysis) -> dict[str, Any]:
    return {
        "sizes": {analysis.curve.size: _curve(analysis) for analysis in series.curves},
        "emergence": {
            found.size: {"emergent": found.emergent, "reason": found.reason}
            for found in series.emergence
        },
        "joint": _joint(series.joint),
    }


def _curve(analysis: CurveAnalysis) -> dict[str, Any]:
    curve = analysis.curve
    return {
        "verdict": analysis.verdict,
        "evidence": analysis.evidence,
        **_trend(analysis),
        "selected_form": analysis.selected,
        "parameter_intervals": {
            name: list(interval) for name, interval in analysis.parameter_intervals.items()
        },
        "training_noise_of_ln_loss": analysis.training_noise,
        "forms": {
            name: describe_curve(fit, analysis.held_out.get(name))
            for name, fit in analysis.fits.items()
        },
        "refused_forms": dict(analysis.refused),
        "extrapolation": analysis.extrapolations,
        "num_params": curve.num_params,
        "num_params_non_embedding": curve.num_params_non_embedding,
        "seeds": list(curve.seeds),
        **_points(analysis),
    }


def _trend(analysis: CurveAnalysis) -> dict[str, Any]:
    tendency = analysis.tendency
    if tendency is None:
        return {"slope": None}
    return {
        "slope": tendency.slope,
        "slope_interval": list(tendency.interval),
        "slope_standard_error": tendency.standard_error,
        "p_value": tendency.p_value,
        "holm_p_value": analysis.adjusted_p,
    }


def _points(analysis: CurveAnalysis) -> dict[str, Any]:
    curve = analysis.curve
    return {
        "points": {
            "num_pairs": curve.num_samples.tolist(),
            "num_tokens": curve.num_tokens.tolist(),
            "flops": curve.flops.tolist(),
            "value": curve.value.tolist(),
            "low": analysis.bands[0].tolist(),
            "high": analysis.bands[1].tolist(),
        }
    }


def _joint(joint: JointAnalysis) -> dict[str, Any]:
    if joint.fit is None:
        return {"refused": joint.refused}
    return {
        **joint.fit.parameters,
        "objective": joint.fit.objective,
        "intervals": {name: list(interval) for name, interval in joint.intervals.items()},
        "num_points": joint.fit.num_points,
        "num_sizes": joint.fit.num_sizes,
        "convergence_share": joint.fit.convergence_share,
        "bounds_hit": list(joint.fit.bounds_hit),
        "condition_number": joint.fit.condition_number,
        "rms_residual": joint.fit.rms_residual,
        "cautions": joint.cautions,
        "flops_per_param_sample": joint.flops_per_param_sample,
    }
