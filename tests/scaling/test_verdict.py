"""The pre-registered words: each from the evidence that defines it."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.analysis import analyse_curve
from scaling.config import BootstrapConfig, RulesConfig
from scaling.resampling import Curve
from scaling.verdict import (
    Trend,
    Verdict,
    call_calibration,
    clearly_broken,
    find_emergence,
    judge,
    trend,
)


def _trend(slope: float, error: float) -> Trend:
    rng = np.random.default_rng(abs(hash((slope, error))))
    resampled = rng.normal(slope, error, 4000)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Trend(slope, (float(low), float(high)), error, 0.0, resampled)


def _judge(slope: float, error: float, *, adjusted_p: float = 0.001, points: int = 9) -> Verdict:
    return judge(
        _trend(slope, error),
        adjusted_p=adjusted_p,
        num_points=points,
        breaks=False,
        flat_slope=0.01,
        confidence=0.95,
    )[0]


@pytest.mark.parametrize(
    ("slope", "error", "word"),
    [
        (-0.05, 0.01, "falls"),
        (0.05, 0.01, "rises"),
        (0.0, 0.004, "flat"),
        (-0.002, 0.002, "flat"),
        (0.0, 0.02, "undecided"),
    ],
)
def test_the_interval_decides_the_word(slope: float, error: float, word: Verdict) -> None:
    assert _judge(slope, error) == word


def test_a_trend_that_does_not_survive_holm_is_undecided() -> None:
    assert _judge(-0.05, 0.02, adjusted_p=0.2) == "undecided"


def test_three_points_carry_no_verdict() -> None:
    assert _judge(-0.05, 0.001, points=3) == "undecided"


def test_swapping_the_sign_of_the_trend_swaps_falls_and_rises() -> None:
    opposite = {"falls": "rises", "rises": "falls", "flat": "flat", "undecided": "undecided"}
    for slope, error in ((0.04, 0.01), (0.001, 0.002), (0.03, 0.03)):
        assert _judge(-slope, error) == opposite[_judge(slope, error)]


def test_a_slope_is_the_least_squares_one() -> None:
    x = np.array([0.0, 1, 2, 3])
    y = 2.0 - 0.3 * x
    found = trend(x, y, np.tile(y, (100, 1)), confidence=0.95)
    assert found.slope == pytest.approx(-0.3)
    assert found.interval == pytest.approx((-0.3, -0.3))


def test_emergence_needs_a_fall_no_smaller_fall_and_different_slopes() -> None:
    sizes = ["s", "m", "l"]
    clear = find_emergence(
        sizes,
        ["undecided", "falls", "falls"],
        [_trend(0.0, 0.005), _trend(-0.05, 0.004), _trend(-0.09, 0.004)],
        confidence=0.95,
    )
    assert [found.emergent for found in clear] == [False, True, False]
    assert "already m falls" in clear[2].reason

    close = find_emergence(
        sizes[:2], ["undecided", "falls"], [_trend(-0.01, 0.01), _trend(-0.02, 0.009)],
        confidence=0.95,
    )  # fmt: skip
    assert not close[1].emergent
    assert "not shown" in close[1].reason

    alone = find_emergence(["s"], ["falls"], [_trend(-0.05, 0.01)], confidence=0.95)
    assert not alone[0].emergent


def test_only_a_rise_of_raw_loss_alone_is_calibration() -> None:
    steady, worse = _trend(0.0, 0.01), _trend(-0.05, 0.01)
    assert call_calibration("rises", "flat", steady)
    assert not call_calibration("rises", "rises", steady)
    assert not call_calibration("rises", "flat", worse)
    assert not call_calibration("falls", "flat", steady)


def test_a_break_must_win_by_both_criteria_and_clearly() -> None:
    smooth = {"pure_power": (-50.0, -55.0), "constant": (-20.0, -21.0)}
    assert clearly_broken({**smooth, "broken_power": (-61.0, -66.0)})
    assert not clearly_broken({**smooth, "broken_power": (-59.0, -80.0)})
    assert not clearly_broken({**smooth, "broken_power": (None, -80.0)})
    assert not clearly_broken(smooth)


def _constant_curve(different: list[float]) -> Curve:
    """ln 2 to the last bit or the one beside it, but for the first points."""
    count = 14
    value = np.full(count, np.log(2.0))
    value[::2] = np.nextafter(np.log(2.0), 0)
    value[: len(different)] = different
    pairs = 128.0 * 2 ** (np.arange(count) / 2)
    resampled = np.tile(value, (200, 1))
    resampled[:, : len(different)] += np.random.default_rng(0).normal(
        0, 1e-3, (200, len(different))
    )
    return Curve("s", 2000, 1000, (0,), pairs, pairs * 100, pairs * 1e9, value, resampled)


def test_a_constant_loss_is_flat_whatever_its_last_bit() -> None:
    bootstrap = BootstrapConfig(num_resamples=200)
    analysis = analyse_curve(_constant_curve([]), bootstrap, RulesConfig())
    assert analysis.tendency is not None
    assert (analysis.tendency.slope, analysis.tendency.p_value) == (0.0, 1.0)
    word, _ = judge(
        analysis.tendency,
        adjusted_p=analysis.tendency.p_value,
        num_points=14,
        breaks=analysis.selected == "broken_power",
        flat_slope=0.01,
        confidence=0.95,
    )
    assert word == "flat"


def test_a_loss_that_is_constant_but_for_two_points_does_not_break() -> None:
    bootstrap = BootstrapConfig(num_resamples=200)
    analysis = analyse_curve(_constant_curve([0.6987, 0.6936]), bootstrap, RulesConfig())
    assert analysis.selected != "broken_power"
