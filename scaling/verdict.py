"""Say in one word what a curve does, by a rule fixed before looking at results.

The trend is the slope of ln loss on ln D (least squares) with its interval over joint resamples.

* falls, rises: the interval excludes 0, also after Holm's correction over the test sets;
* breaks: a broken power law beats every smooth form by AICc and BIC, clearly;
* flat: the interval covers 0 and lies within ± `flat_slope`;
* undecided: anything else.

A size is emergent on a test set if its loss falls, no smaller size's loss falls, and its slope
differs from that of every smaller size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from scaling.robust_fit import Array

Verdict = Literal["falls", "flat", "rises", "breaks", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("falls", "flat", "rises", "breaks", "undecided")

MIN_POINTS = 4
SLOPE_RESOLUTION = 1e-12  # smaller slopes of ln loss are rounding
CLEAR_CRITERION_GAP = 10.0  # a difference of 10 in AICc or BIC: "essentially no support"


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope with its interval, standard error and two-sided p-value (normal approximation)."""

    slope: float
    interval: tuple[float, float]
    standard_error: float
    p_value: float
    resampled: Array

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True, slots=True)
class Emergence:
    """The rule's answer for one size on one test set, with the evidence."""

    size: str
    emergent: bool
    reason: str


def trend(x: Array, y: Array, y_resampled: Array, *, confidence: float) -> Trend:
    """The least-squares slope of y [n] on x [n] and its interval from resamples [R, n].

    The interval is percentile based and recentred on the sample's own slope.
    """
    slope = float(_without_rounding(slopes(x, y[None]))[0])
    resampled = _without_rounding(slopes(x, y_resampled))
    resampled = resampled - resampled.mean() + slope
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    error = float(resampled.std(ddof=1))
    p_value = float(2 * norm.sf(abs(slope) / error)) if error > 0 else float(slope == 0)
    return Trend(slope, (float(low), float(high)), error, p_value, resampled)


def slopes(x: Array, y: Array) -> Array:
    """Least-squares slopes [R] of rows y [R, n] on x [n]."""
    centred = x - x.mean()
    return (y @ centred) / float(centred @ centred)


def _without_rounding(slope_R: Array) -> Array:
    # A constant series (ln 2 throughout, where scores carry nothing) has slopes of 1e-16, all of
    # one sign.
    return np.where(np.abs(slope_R) < SLOPE_RESOLUTION, 0.0, slope_R)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted.tolist()


def judge(
    tendency: Trend,
    *,
    adjusted_p: float,
    num_points: int,
    breaks: bool,
    flat_slope: float,
    confidence: float,
) -> tuple[Verdict, str]:
    """The verdict of one curve and a sentence of evidence."""
    low, high = tendency.interval
    evidence = f"slope {tendency.slope:+.4f} [{low:+.4f}, {high:+.4f}] of ln loss on ln D"
    if num_points < MIN_POINTS:
        return "undecided", f"{num_points} points; a verdict needs {MIN_POINTS}"
    if breaks:
        return "breaks", f"a broken power law fits clearly better than any smooth form; {evidence}"
    if tendency.excludes_zero:
        if adjusted_p < 1 - confidence:
            word: Verdict = "falls" if tendency.slope < 0 else "rises"
            return word, f"{evidence}, Holm-adjusted p {adjusted_p:.2g}"
        return "undecided", (
            f"{evidence} excludes 0 alone, but not after Holm's correction (p {adjusted_p:.2g})"
        )
    if max(abs(low), abs(high)) <= flat_slope:
        return "flat", f"{evidence}, within ±{flat_slope:g}"
    return "undecided", f"{evidence} covers 0 and reaches beyond ±{flat_slope:g}"


def clearly_broken(criteria: Mapping[str, tuple[float | None, float]]) -> bool:
    """Whether `broken_power` beats every other form by 10 in both AICc and BIC.

    `criteria` maps a form's name to (AICc, BIC); an AICc that is not defined never wins.
    """
    own = criteria.get("broken_power")
    if own is None or own[0] is None:
        return False
    others = [pair for name, pair in criteria.items() if name != "broken_power"]
    best_aicc = min((aicc for aicc, _ in others if aicc is not None), default=np.inf)
    best_bic = min((bic for _, bic in others), default=np.inf)
    return own[0] + CLEAR_CRITERION_GAP <= best_aicc and own[1] + CLEAR_CRITERION_GAP <= best_bic


def find_emergence(
    sizes: Sequence[str],
    verdicts: Sequence[Verdict],
    trends: Sequence[Trend],
    *,
    confidence: float,
) -> list[Emergence]:
    """Apply the rule to the sizes of one test set, given from small to large.

    Trends must come from the same resamples: the difference of slopes is taken within them.
    """
    results: list[Emergence] = []
    tail = 100 * (1 - confidence) / 2
    for index, size in enumerate(sizes):
        smaller = range(index)
        if verdicts[index] != "falls":
            results.append(Emergence(size, False, f"its loss does not fall ({verdicts[index]})"))
            continue
        falling = [sizes[other] for other in smaller if trends[other].interval[1] < 0]
        if not smaller or falling:
            reason = f"already {falling[0]} falls" if falling else "no smaller size to compare with"
            results.append(Emergence(size, False, reason))
            continue
        same = [
            sizes[other]
            for other in smaller
            if np.percentile(trends[index].resampled - trends[other].resampled, 100 - tail) >= 0
        ]
        if same:
            reason = f"not shown: its slope does not differ from that of {', '.join(same)}"
            results.append(Emergence(size, False, reason))
            continue
        results.append(Emergence(size, True, "falls, no smaller size does, and slopes differ"))
    return results


def call_calibration(raw: Verdict, temperature: Verdict, accuracy: Trend) -> bool:
    """Whether a rise is one of reward scale only.

    True where raw loss rises, yet neither the loss at the best temperature rises nor accuracy
    significantly falls.
    """
    return raw == "rises" and temperature != "rises" and not accuracy.interval[1] < 0
