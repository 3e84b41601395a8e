"""Verdicts over all test sets: Holm's correction first, then words, emergence and calibration."""

from __future__ import annotations

from collections.abc import Sequence

from scaling.analysis import CurveAnalysis, SetAnalysis
from scaling.config import BootstrapConfig, RulesConfig
from scaling.loss_series import SERIES, SeriesName
from scaling.verdict import MIN_POINTS, Emergence, call_calibration, find_emergence, holm, judge


def conclude(sets: Sequence[SetAnalysis], bootstrap: BootstrapConfig, rules: RulesConfig) -> None:
    """Give every curve its verdict, in place: Holm over test sets, then emergence, calibration.

    The family is the benchmark sets at one size in one series; the in-distribution control stands
    alone.
    """
    for name in SERIES:
        _correct(sets, name)
        for one_set in sets:
            series = one_set.series[name]
            for analysis in series.curves:
                _give_verdict(analysis, bootstrap, rules)
            series.emergence = _emergence(series.curves, bootstrap.confidence)
    for one_set in sets:
        rows = zip(
            one_set.series["raw"].curves,
            one_set.series["temperature"].curves,
            one_set.accuracy,
            strict=True,
        )
        one_set.calibration = [
            raw.curve.size
            for raw, scaled, accuracy in rows
            if accuracy.tendency is not None
            and call_calibration(raw.verdict, scaled.verdict, accuracy.tendency)
        ]


def _correct(sets: Sequence[SetAnalysis], name: SeriesName) -> None:
    families: dict[str, list[CurveAnalysis]] = {}
    for one_set in sets:
        for analysis in one_set.series[name].curves:
            if analysis.tendency is None:
                continue
            if one_set.kind == "in_distribution":
                analysis.adjusted_p = analysis.tendency.p_value
            else:
                families.setdefault(analysis.curve.size, []).append(analysis)
    for family in families.values():
        p_values = [member.tendency.p_value for member in family if member.tendency is not None]
        for member, adjusted in zip(family, holm(p_values), strict=True):
            member.adjusted_p = adjusted


def _give_verdict(analysis: CurveAnalysis, bootstrap: BootstrapConfig, rules: RulesConfig) -> None:
    if analysis.tendency is None:
        analysis.evidence = f"{len(analysis.curve.value)} points; a verdict needs {MIN_POINTS}"
        return
    analysis.verdict, analysis.evidence = judge(
        analysis.tendency,
        adjusted_p=analysis.adjusted_p,
        num_points=len(analysis.curve.value),
        breaks=analysis.selected == "broken_power",
        flat_slope=rules.flat_slope,
        confidence=bootstrap.confidence,
    )


def _emergence(curves: Sequence[CurveAnalysis], confidence: float) -> list[Emergence]:
    judged = [analysis for analysis in curves if analysis.tendency is not None]
    return find_emergence(
        [analysis.curve.size for analysis in judged],
        [analysis.verdict for analysis in judged],
        [analysis.tendency for analysis in judged if analysis.tendency is not None],
        confidence=confidence,
    )
