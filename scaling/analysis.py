"""From score tables to curves, fits with intervals, and trends.

Verdicts wait until the trends of all test sets are known: see `conclusions`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scaling.collect import ScoreTable
from scaling.config import BootstrapConfig, RulesConfig
from scaling.curve_forms import FORMS
from scaling.joint_law import (
    JointFit,
    JointPoints,
    compute_exponent,
    fit_joint,
    refit_joint,
)
from scaling.loss_series import SERIES, ItemLosses, SeriesName
from scaling.power_law import CurveFit, fit_curves, held_out_errors, refit_resamples
from scaling.resampling import Curve, add_training_noise, make_curves, resample_item_means
from scaling.robust_fit import Array
from scaling.verdict import (
    Emergence,
    Trend,
    Verdict,
    clearly_broken,
    trend,
)
from worldpm.errors import FitError

TREND_FORMS = ("log_linear", "pure_power", "offset_power")
SMOOTH_FORMS = ("constant", *TREND_FORMS)
MIN_CONVERGENCE_SHARE = 0.1
MAX_EXPONENT_WIDTH = 1.0


@dataclass(slots=True)
class CurveAnalysis:
    """One size on one test set and series: what was measured, fitted and concluded."""

    curve: Curve
    bands: Array  # [2, n], item and seed sampling only
    fits: dict[str, CurveFit] = field(default_factory=dict[str, CurveFit])
    held_out: dict[str, float | None] = field(default_factory=dict[str, float | None])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    selected: str | None = None
    parameter_intervals: dict[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    extrapolations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    training_noise: float = 0.0
    noisy: Array | None = None  # [R, n], resamples with the noise of training added
    tendency: Trend | None = None
    adjusted_p: float = 1.0
    verdict: Verdict = "undecided"
    evidence: str = ""

    @property
    def noisy_curve(self) -> Curve:
        """The curve with resamples that hold the noise of training too."""
        return self.curve if self.noisy is None else replace(self.curve, resampled=self.noisy)


@dataclass(slots=True)
class JointAnalysis:
    """The joint law of one test set, or why it is refused."""

    refused: str = ""
    fit: JointFit | None = None
    intervals: dict[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    points: JointPoints | None = None
    flops_per_param_sample: float = 0.0

    @property
    def cautions(self) -> list[str]:
        """Why the parameters should not be read as a law, from the fit and from its resamples."""
        if self.fit is None:
            return []
        found = list(self.fit.cautions)
        if self.fit.convergence_share < MIN_CONVERGENCE_SHARE:
            found.append(f"only {self.fit.convergence_share:.0%} of the starts reach this optimum")
        loose = [
            name
            for name in ("alpha", "beta")
            if self.intervals[name][1] - self.intervals[name][0] > MAX_EXPONENT_WIDTH
        ]
        outside = [
            name
            for name, value in self.fit.parameters.items()
            if not self.intervals[name][0] <= value <= self.intervals[name][1]
        ]
        if loose:
            found.append(f"the data leave {' and '.join(loose)} open")
        if outside:
            found.append(f"resamples settle elsewhere ({', '.join(outside)})")
        return found


@dataclass(slots=True)
class SeriesAnalysis:
    """All sizes of one series, from small to large."""

    curves: list[CurveAnalysis]
    joint: JointAnalysis
    emergence: list[Emergence] = field(default_factory=list[Emergence])


@dataclass(slots=True)
class SetAnalysis:
    """One test set: loss series by name, accuracy, and sizes whose raw rise is calibration only."""

    test_set: str
    kind: str
    num_items: int
    num_pairs: int
    series: dict[SeriesName, SeriesAnalysis]
    accuracy: list[CurveAnalysis]
    calibration: list[str] = field(default_factory=list[str])


def analyse_set(
    table: ScoreTable, losses: ItemLosses, bootstrap: BootstrapConfig, rules: RulesConfig
) -> SetAnalysis:
    """Curves, fits and trends of one test set; verdicts wait for the other sets."""
    seed = derived_seed(bootstrap.seed, table.test_set)
    *loss_means, accuracy_means = resample_item_means(
        [*(losses.losses[name] for name in SERIES), losses.correct_PI],
        losses.weight_I,
        num_resamples=bootstrap.num_resamples,
        seed=seed,
    )
    series: dict[SeriesName, SeriesAnalysis] = {}
    for name, resampled in zip(SERIES, loss_means, strict=True):
        curves = make_curves(table.points, losses.mean_loss(name), resampled, seed=seed)
        series[name] = SeriesAnalysis(
            analyse_curves(curves, bootstrap, rules), analyse_joint(curves, bootstrap, rules)
        )
    accuracy = make_curves(table.points, losses.accuracy(), accuracy_means, seed=seed)
    return SetAnalysis(
        test_set=table.test_set,
        kind=table.kind,
        num_items=len(table.item_ids),
        num_pairs=len(table.item_Q),
        series=series,
        accuracy=[_analyse_accuracy(curve, bootstrap) for curve in accuracy],
    )


def derived_seed(seed: int, *names: str) -> int:
    """A seed of its own for each named part, the same in every run and for every subset."""
    return zlib.crc32("/".join((str(seed), *names)).encode())


def analyse_curve(curve: Curve, bootstrap: BootstrapConfig, rules: RulesConfig) -> CurveAnalysis:
    """Fits of every form, the trend, and intervals of the form that AICc selects."""
    return analyse_curves([curve], bootstrap, rules)[0]


def analyse_curves(
    curves: Sequence[Curve], bootstrap: BootstrapConfig, rules: RulesConfig
) -> list[CurveAnalysis]:
    """The same for several curves; those with equal D are fitted together, which is faster."""
    results = [
        CurveAnalysis(curve, _bands(curve.resampled, bootstrap.confidence)) for curve in curves
    ]
    groups: dict[tuple[float, ...], list[CurveAnalysis]] = {}
    for result in results:
        groups.setdefault(tuple(result.curve.num_samples), []).append(result)
    for group in groups.values():
        if len(group[0].curve.value) < 2:
            for result in group:
                result.refused["all forms"] = "a single point; two are the least"
            continue
        _fit_forms(group, rules.curve_delta)
        for result in group:
            _conclude_curve(result, bootstrap, rules)
    return results


def _conclude_curve(result: CurveAnalysis, bootstrap: BootstrapConfig, rules: RulesConfig) -> None:
    curve = result.curve
    log_resampled, result.training_noise = noisy_resamples(curve, result.fits, bootstrap)
    result.noisy = np.exp(log_resampled)
    result.tendency = trend(
        np.log(curve.num_samples),
        np.log(curve.value),
        log_resampled,
        confidence=bootstrap.confidence,
    )
    result.selected = "broken_power" if _is_broken(result) else best_smooth_form(result.fits)
    if result.selected is not None:
        _intervals_of_selected(result, result.noisy, bootstrap, rules)


def analyse_joint(
    curves: Sequence[Curve], bootstrap: BootstrapConfig, rules: RulesConfig
) -> JointAnalysis:
    """The joint law over all sizes; resamples draw items, seeds and points."""
    points = JointPoints(
        num_params=np.repeat(
            [float(curve.num_params_non_embedding) for curve in curves],
            [len(curve.value) for curve in curves],
        ),
        num_samples=np.concatenate([curve.num_samples for curve in curves]),
        loss=np.concatenate([curve.value for curve in curves]),
    )
    try:
        fit = fit_joint(points, delta=rules.joint_delta)
    except FitError as exc:
        return JointAnalysis(refused=str(exc))
    count = len(points.loss)
    rng = np.random.default_rng(derived_seed(bootstrap.seed, "joint"))
    weights = rng.multinomial(count, np.full(count, 1 / count), size=bootstrap.num_resamples)
    log_losses = np.log(np.concatenate([curve.resampled for curve in curves], axis=1))
    resampled = refit_joint(
        fit, points, log_losses, weights.astype(np.float64), delta=rules.joint_delta
    )
    columns = dict(zip(fit.parameters, resampled.T, strict=True))
    columns["compute_optimal_size_exponent"] = compute_exponent(resampled[:, 3], resampled[:, 4])
    flops = np.concatenate([curve.flops for curve in curves])
    return JointAnalysis(
        fit=fit,
        points=points,
        intervals={
            name: _interval(values, bootstrap.confidence) for name, values in columns.items()
        },
        flops_per_param_sample=float(np.median(flops / (points.num_params * points.num_samples))),
    )


def _fit_forms(group: Sequence[CurveAnalysis], delta: float) -> None:
    num_samples = group[0].curve.num_samples
    losses = np.stack([result.curve.value for result in group])
    for form in FORMS.values():
        try:
            fits = fit_curves(form, num_samples, losses, delta=delta)
        except FitError as exc:
            for result in group:
                result.refused[form.name] = str(exc)
            continue
        errors = held_out_errors(form, num_samples, losses, delta=delta)
        for result, fit, error in zip(group, fits, errors, strict=True):
            result.fits[form.name], result.held_out[form.name] = fit, error


def best_smooth_form(fits: Mapping[str, CurveFit]) -> str | None:
    """The form without a break that has the least AICc."""
    scored = {
        name: aicc
        for name in SMOOTH_FORMS
        if name in fits and (aicc := fits[name].aicc) is not None
    }
    return min(scored, key=lambda name: scored[name]) if scored else None


def noisy_resamples(
    curve: Curve, fits: Mapping[str, CurveFit], bootstrap: BootstrapConfig
) -> tuple[Array, float]:
    """ln of the resamples [R, n] with the noise of training added, and its level.

    The noise is the scatter about the trend form that leaves the least variance.
    """
    log_resampled, log_value = np.log(curve.resampled), np.log(curve.value)
    # A trend is no noise: a constant, which AICc prefers for short curves, takes no part.
    spare = {
        name: fit.rss / (fit.num_points - FORMS[name].num_parameters)
        for name, fit in fits.items()
        if name in TREND_FORMS and fit.num_points > FORMS[name].num_parameters + 1
    }
    if not spare:
        return log_resampled, 0.0
    closest = min(spare, key=lambda name: spare[name])
    return add_training_noise(
        log_value,
        log_resampled,
        np.log(fits[closest].predict(curve.num_samples)),
        FORMS[closest].num_parameters,
        seed=derived_seed(bootstrap.seed, curve.size, "training noise"),
    )


def _is_broken(result: CurveAnalysis) -> bool:
    # A curve that is constant but for a few points is met exactly by a break: that is no evidence.
    num_distinct = len(np.unique(result.curve.value.round(9)))
    if num_distinct <= FORMS["broken_power"].num_parameters:
        return False
    return clearly_broken({name: (fit.aicc, fit.bic) for name, fit in result.fits.items()})


def _intervals_of_selected(
    result: CurveAnalysis, resampled: Array, bootstrap: BootstrapConfig, rules: RulesConfig
) -> None:
    assert result.selected is not None
    curve, fit, form = result.curve, result.fits[result.selected], FORMS[result.selected]
    theta_RK = refit_resamples(fit, curve.num_samples, resampled, delta=rules.curve_delta)
    natural_RK = form.natural(theta_RK, fit.centre)
    result.parameter_intervals = {
        name: _interval(natural_RK[:, column], bootstrap.confidence)
        for column, name in enumerate(form.parameter_names)
    }
    largest = float(curve.num_samples.max())
    for factor in rules.extrapolate:
        row: dict[str, Any] = {"factor": factor, "num_samples": factor * largest}
        if factor > rules.max_extrapolation_factor:
            row["refused"] = f"beyond {rules.max_extrapolation_factor:g} × the largest D"
        else:
            at = np.array([np.log(factor * largest) - fit.centre])
            predicted = np.exp(form.predict_log(theta_RK, at)[0][:, 0])
            row["loss"] = float(fit.predict(np.array([factor * largest]))[0])
            row["interval"] = _interval(predicted, bootstrap.confidence)
        result.extrapolations.append(row)


def _analyse_accuracy(curve: Curve, bootstrap: BootstrapConfig) -> CurveAnalysis:
    result = CurveAnalysis(curve, _bands(curve.resampled, bootstrap.confidence))
    if len(curve.value) >= 2:
        result.tendency = trend(
            np.log(curve.num_samples),
            curve.value,
            curve.resampled,
            confidence=bootstrap.confidence,
        )
    return result


def _bands(resampled: Array, confidence: float) -> Array:
    tail = 100 * (1 - confidence) / 2
    return np.percentile(resampled, [tail, 100 - tail], axis=0)


def _interval(values: Array, confidence: float) -> tuple[float, float]:
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)
