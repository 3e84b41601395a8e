"""`worldpm scaling fit` on files: what it writes, predicts, refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from scaling.config import FitConfig
from scaling.fit import run_fit
from worldpm.cli.main import cli
from worldpm.errors import ConfigError, FitError, InputError

CONFIG = Path("configs/scaling/joint.yaml")


@pytest.fixture
def points(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "points.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["loss", "num_params", "num_samples", "comment"])
        for size in np.geomspace(1e6, 1e9, 6):
            for samples in np.geomspace(1e4, 1e7, 8):
                loss = 0.35 + 6 * size**-0.25 + 3 * samples**-0.22
                writer.writerow([loss * np.exp(rng.normal(0, 0.002)), size, samples, "x"])
    return path


def _config(points: Path, **changes: object) -> FitConfig:
    values = {"input": points, "output_dir": points.parent / "out", "law": "joint", **changes}
    return FitConfig.model_validate(values)


def test_the_command_writes_the_promised_names(points: Path, project_root: Path) -> None:
    output_dir = points.parent / "fit"
    arguments = [str(project_root / CONFIG), f"input={points}", f"output_dir={output_dir}"]
    result = CliRunner().invoke(cli, ["scaling", "fit", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    fits = json.loads((output_dir / "fits.json").read_text())
    for name, truth in {"E": 0.35, "A": 6, "B": 3, "alpha": 0.25, "beta": 0.22}.items():
        low, high = fits["intervals"][name]
        assert low < fits[name] < high
        assert fits[name] == pytest.approx(truth, rel=0.25)
    assert 0 < fits["objective"] < 1
    assert fits["num_points"] == 48


def test_the_printed_command_repeats_every_digit(
    points: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex

    monkeypatch.chdir(project_root)
    first = run_fit(_config(points, predict_at=[{"num_samples": 2e7, "num_params": 2e9}]), CONFIG)
    written = (points.parent / "out" / "fits.json").read_bytes()
    _, *arguments = shlex.split(first["command"])
    assert CliRunner().invoke(cli, arguments, catch_exceptions=False).exit_code == 0
    assert (points.parent / "out" / "fits.json").read_bytes() == written


def test_predictions_are_close_and_end_at_the_stated_factor(points: Path) -> None:
    wanted = {"num_samples": 4e7, "num_params": 4e9}
    result = run_fit(_config(points, predict_at=[wanted]), CONFIG)
    (prediction,) = result["predictions"]
    truth = 0.35 + 6 * 4e9**-0.25 + 3 * 4e7**-0.22
    assert prediction["interval"][0] < prediction["loss"] < prediction["interval"][1]
    assert prediction["loss"] == pytest.approx(truth, rel=0.01)
    with pytest.raises(FitError, match=r"20\.0 times the largest"):
        run_fit(_config(points, predict_at=[{"num_samples": 2e8, "num_params": 1e9}]), CONFIG)
    with pytest.raises(ConfigError, match="needs num_params"):
        run_fit(_config(points, predict_at=[{"num_samples": 2e7}]), CONFIG)


def test_dropping_the_highest_losses_follows_the_published_rule(points: Path) -> None:
    # "below the 5th largest": five rows go.
    result = run_fit(_config(points, drop_highest_losses=5), CONFIG)
    assert result["num_points"] == 43
    assert result["dropped"] == {"highest_losses": 5}


def test_a_curve_is_fitted_by_every_form(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    samples = np.geomspace(1e4, 1e7, 12)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.001, 12))
    rows = [f"{x},{y}" for x, y in zip(samples, (0.4 + 9 * samples**-0.4) * noise, strict=True)]
    path.write_text("num_samples,loss\n" + "\n".join(rows) + "\n")
    result = run_fit(_config(path, law="curve", huber_delta=0.01), CONFIG)
    assert result["best_by_aicc"] == "offset_power"
    assert result["forms"]["offset_power"]["intervals"]["beta"][0] < 0.4
    assert result["forms"]["offset_power"]["intervals"]["beta"][1] > 0.4
    assert set(result["forms"]) == {
        "constant", "log_linear", "pure_power", "offset_power", "broken_power",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_params,loss\n1,2\n", "no column num_samples"),
        ("num_params,num_samples,loss\n", "no rows"),
        ("num_params,num_samples,loss\n1,2,x\n", "line 2, column loss: expected a finite number"),
        ("num_params,num_samples,loss\n1,2,3\n1,-2,3\n", "line 3, column num_samples"),
        ("num_params,num_samples,loss\n1,2,nan\n", "found 'nan'"),
    ],
)
def test_bad_files_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        run_fit(_config(path), CONFIG)
    with pytest.raises(InputError, match="no points file"):
        run_fit(_config(tmp_path / "none.csv"), CONFIG)
