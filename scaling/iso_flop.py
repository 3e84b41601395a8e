"""Iso-FLOP profiles: at equal compute, a parabola of ln loss in ln N whose bottom is the best size.

The second approach of Hoffmann et al. 2022. Losses at a budget are interpolated along each size's
curve, linearly in logs; a budget is used only where at least three sizes reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scaling.resampling import Curve
from scaling.robust_fit import Array

MIN_SIZES = 3
NUM_BUDGETS = 6
MAX_RESAMPLES = 200
MIN_RESAMPLE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class IsoFlop:
    """One budget: interpolated losses of the sizes that reach it, and the parabola if it opens up.

    `optimal_params` is None, with the reason, where there is no bottom among the sizes.
    """

    flops: float
    num_params: Array
    loss: Array
    coefficients: tuple[float, float, float]
    optimal_params: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class IsoFlopLaw:
    """N_opt ∝ C^exponent through the bottoms of several budgets, or why there is none.

    The interval is over the resamples that the curves carry.
    """

    profiles: tuple[IsoFlop, ...]
    size_exponent: float | None
    reason: str
    interval: tuple[float, float] | None = None


def fit_iso_flop(curves: Sequence[Curve], *, confidence: float) -> IsoFlopLaw:
    """Profiles at log-spaced budgets within the range that several sizes share.

    An exponent is given only if nearly all resamples have one: else chance put the bottoms there.
    """
    law = _fit(curves)
    if law.size_exponent is None:
        return law
    num_resamples = min(MAX_RESAMPLES, len(curves[0].resampled))
    exponents = [
        exponent
        for row in range(num_resamples)
        if (exponent := _fit([_resample(curve, row) for curve in curves]).size_exponent) is not None
    ]
    if len(exponents) < MIN_RESAMPLE_SHARE * num_resamples:
        share = len(exponents) / num_resamples
        reason = f"only {share:.0%} of the resamples have their best sizes inside"
        return replace(law, size_exponent=None, reason=reason)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(exponents, [tail, 100 - tail])
    return replace(law, interval=(float(low), float(high)))


def _resample(curve: Curve, row: int) -> Curve:
    return replace(curve, value=curve.resampled[row])


def _fit(curves: Sequence[Curve]) -> IsoFlopLaw:
    usable = [curve for curve in curves if len(curve.value) >= 2 and (curve.flops > 0).all()]
    if len(usable) < MIN_SIZES:
        return IsoFlopLaw((), None, f"{len(usable)} sizes with compute; {MIN_SIZES} are needed")
    starts = np.sort([curve.flops.min() for curve in usable])
    ends = np.sort([curve.flops.max() for curve in usable])
    low, high = starts[MIN_SIZES - 1], ends[-MIN_SIZES]
    if low >= high:
        return IsoFlopLaw((), None, f"no compute budget is shared by {MIN_SIZES} sizes")
    profiles = tuple(
        profile
        for flops in np.geomspace(low, high, NUM_BUDGETS)
        if (profile := _profile(usable, float(flops))) is not None
    )
    bottoms = [p for p in profiles if p.optimal_params is not None]
    if len(bottoms) < 2:
        return IsoFlopLaw(profiles, None, "fewer than two budgets have their best size inside")
    exponent = np.polyfit(
        np.log([p.flops for p in bottoms]),
        np.log([p.optimal_params for p in bottoms if p.optimal_params is not None]),
        1,
    )[0]
    return IsoFlopLaw(profiles, float(exponent), "")


def _profile(curves: Sequence[Curve], flops: float) -> IsoFlop | None:
    reached = [curve for curve in curves if curve.flops.min() <= flops <= curve.flops.max()]
    if len(reached) < MIN_SIZES:
        return None
    num_params = np.array([float(curve.num_params_non_embedding) for curve in reached])
    log_loss = np.array(
        [np.interp(np.log(flops), np.log(curve.flops), np.log(curve.value)) for curve in reached]
    )
    centre = float(np.log(num_params).mean())
    bend, tilt, level = np.polyfit(np.log(num_params) - centre, log_loss, 2)
    optimal, reason = None, ""
    if bend <= 0:
        reason = "the parabola has no bottom"
    else:
        optimal = float(np.exp(centre - tilt / (2 * bend)))
        if not num_params.min() <= optimal <= num_params.max():
            optimal, reason = None, "the bottom lies outside the sizes"
    # Coefficients of ln loss in ln N, not centred: c2·(ln N)² + c1·ln N + c0.
    return IsoFlop(
        flops=flops,
        num_params=num_params,
        loss=np.exp(log_loss),
        coefficients=(
            float(bend),
            float(tilt - 2 * bend * centre),
            float(level - tilt * centre + bend * centre**2),
        ),
        optimal_params=optimal,
        reason=reason,
    )
