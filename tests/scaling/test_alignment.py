"""Figures 6 and 7 from the result files of best-of-N and fine-tuning, and iso-FLOP profiles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaling.alignment import read_best_of_n, read_fine_tuning
from scaling.iso_flop import fit_iso_flop
from scaling.plots.alignment import best_of_n_figure, fine_tuning_figure
from scaling.plots.canvas import save
from scaling.plots.training import smooth
from scaling.resampling import Curve
from worldpm.errors import InputError


def _average(mean: float) -> dict[str, float]:
    return {"mean": mean, "standard_error": 0.1}


def test_best_of_n_curves_are_read_and_drawn(tmp_path: Path) -> None:
    for name, gain in (("small", 0.1), ("large", 0.3)):
        curve = [
            {"n": n, "kl_bound": 0.0, "score": _average(1.0), "length": _average(100 - n),
             "gold": _average(gain * np.log(n))}
            for n in (1, 4, 16)
        ]  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "curve.json").write_text(json.dumps({"curve": curve}))
    models = read_best_of_n(tmp_path)
    assert [model.model for model in models] == ["large", "small"]
    assert models[0].is_gold
    assert models[0].value[2] == pytest.approx(0.3 * np.log(16))
    assert save(best_of_n_figure(models), tmp_path, "six", dpi=50).stat().st_size > 1000
    with pytest.raises(InputError, match=r"holds no curve\.json"):
        read_best_of_n(tmp_path / "small" / "nothing")


def test_fine_tuning_gains_carry_the_pairs_of_their_start(write_run, tmp_path: Path) -> None:
    comparison = {
        "objective": {"over_baseline": {"accuracy": 0.05, "accuracy_interval": [0.01, 0.09]}}
    }
    for points in (2, 4):
        pretraining = write_run(tmp_path / f"pre-{points}", num_points=points, num_items=5)
        run = write_run(tmp_path / "tuned" / f"tuned-{points}", num_points=1, num_items=5)
        record = json.loads((run / "run.json").read_text())
        record["config"]["model"] = {"init_from": str(pretraining / "model")}
        (run / "run.json").write_text(json.dumps(record))
        (run / "comparison.json").write_text(json.dumps(comparison))
    alone = write_run(tmp_path / "tuned" / "alone", num_points=1, num_items=5)
    (alone / "comparison.json").write_text(json.dumps(comparison))

    gains, left_out = read_fine_tuning(tmp_path / "tuned")
    assert [(gain.num_pretraining_pairs, gain.gain) for gain in gains] == [(128, 0.05), (512, 0.05)]
    assert [(entry.run, "names no checkpoint" in entry.reason) for entry in left_out] == [
        ("alone", True)
    ]
    assert save(fine_tuning_figure(gains), tmp_path, "seven", dpi=50).stat().st_size > 1000


def _curves(num_sizes: int) -> list[Curve]:
    """loss = 0.3 + (N/1e4)^-1/2 + (D/1e4)^-1/2 with C = 6ND: the best N at C is sqrt(C/6)."""
    curves = []
    for size in np.geomspace(1e3, 1e5, num_sizes):
        samples = np.geomspace(1e2, 1e6, 60)
        loss = 0.3 + (size / 1e4) ** -0.5 + (samples / 1e4) ** -0.5
        flops = 6 * size * samples
        curves.append(
            Curve(
                f"{size:.0f}", int(size), int(size), (0,), samples, samples, flops, loss, loss[None]
            )
        )
    return curves


def test_iso_flop_profiles_find_the_exponent_of_the_best_size() -> None:
    law = fit_iso_flop(_curves(15), confidence=0.95)
    assert law.size_exponent == pytest.approx(0.5, abs=0.08)
    assert law.interval == pytest.approx((law.size_exponent, law.size_exponent))
    for profile in law.profiles:
        if profile.optimal_params is not None:
            assert profile.optimal_params == pytest.approx(np.sqrt(profile.flops / 6), rel=0.35)


def test_noise_widens_the_interval_of_the_exponent_until_none_is_given() -> None:
    rng = np.random.default_rng(0)
    noisy = [
        replace(curve, resampled=curve.value * np.exp(rng.normal(0, 0.3, (50, 1))))
        for curve in _curves(4)
    ]
    law = fit_iso_flop(noisy, confidence=0.95)
    assert law.interval is not None
    assert law.interval[1] - law.interval[0] > 0.5
    noisier = [
        replace(curve, resampled=curve.value * np.exp(rng.normal(0, 3.0, (50, 1))))
        for curve in _curves(4)
    ]
    refused = fit_iso_flop(noisier, confidence=0.95)
    assert refused.size_exponent is None
    assert "of the resamples" in refused.reason


def test_two_sizes_have_no_profile() -> None:
    law = fit_iso_flop(_curves(2), confidence=0.95)
    assert law.profiles == ()
    assert "3 are needed" in law.reason


def test_a_trailing_mean_ignores_missing_values() -> None:
    values = np.array([1.0, 3.0, np.nan, 5.0, 7.0])
    assert smooth(values, 2) == pytest.approx([1, 2, 3, 5, 6])
