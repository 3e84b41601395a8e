"""The report on made-up runs with planted laws: verdicts, files, and the page in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from scaling.config import BootstrapConfig, ReportConfig
from scaling.findings import Findings
from scaling.report import run_report
from worldpm.cli.main import cli

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def report(ladder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Findings, Path]:
    output_dir = tmp_path_factory.mktemp("report")
    config = ReportConfig(
        runs=ladder,
        output_dir=output_dir,
        bootstrap=BootstrapConfig(num_resamples=200),
        png_dpi=60,
        num_workers=1,
    )
    return run_report(config, Path("configs/scaling/report.yaml")), output_dir


def _verdicts(findings: Findings, name: str, series: str = "raw") -> list[str]:
    (one_set,) = [one_set for one_set in findings.sets if one_set.test_set == name]
    return [analysis.verdict for analysis in one_set.series[series].curves]  # type: ignore[index]


def test_planted_trends_get_their_verdicts(report: tuple[Findings, Path]) -> None:
    findings, _ = report
    assert _verdicts(findings, "adversarial") == ["falls"] * 6
    assert _verdicts(findings, "in_distribution") == ["falls"] * 6
    assert _verdicts(findings, "objective")[2:] == ["falls"] * 4
    assert "falls" not in _verdicts(findings, "objective")[:2]


def test_the_planted_emergence_is_found_at_its_size(report: tuple[Findings, Path]) -> None:
    findings, _ = report
    for one_set in findings.sets:
        emergent = [found.size for found in one_set.series["raw"].emergence if found.emergent]
        assert emergent == (["size-2"] if one_set.test_set == "objective" else [])


def test_growing_margins_without_better_ranking_are_called_calibration(
    report: tuple[Findings, Path],
) -> None:
    findings, _ = report
    (subjective,) = [one_set for one_set in findings.sets if one_set.test_set == "subjective"]
    assert len(subjective.calibration) == 6
    assert set(_verdicts(findings, "subjective")) == {"rises"}
    assert any("calibration" in sentence for sentence in findings.summary)


def test_all_files_are_written_and_numbers_are_exact(report: tuple[Findings, Path]) -> None:
    findings, output_dir = report
    fits = json.loads((output_dir / "fits.json").read_text())
    assert fits["command"].startswith("worldpm scaling report configs/scaling/report.yaml")
    falling = fits["test_sets"]["adversarial"]["series"]["raw"]["sizes"]["size-3"]
    assert falling["slope_interval"][1] < 0
    assert falling["forms"]["pure_power"]["parameters"]["beta"] > 0
    assert "refused" not in fits["test_sets"]["adversarial"]["series"]["raw"]["joint"]
    assert {entry["run"] for entry in fits["left_out"]} >= {"size-9-seed0"}
    names = {path.stem for path in (output_dir / "figures").iterdir()}
    assert names >= {"loss_adversarial", "training", "frontier", "iso_flop", "bias_objective"}
    for name in names:
        assert (output_dir / "figures" / f"{name}.svg").stat().st_size > 1000
        assert (output_dir / "figures" / f"{name}.png").stat().st_size > 1000
    assert findings.summary[0] in (output_dir / "report.md").read_text()


def test_item_losses_are_kept_and_average_to_the_curves(report: tuple[Findings, Path]) -> None:
    findings, output_dir = report
    (one_set,) = [one_set for one_set in findings.sets if one_set.test_set == "objective"]
    curve = one_set.series["temperature"].curves[3].curve
    means = duckdb.sql(
        f"""SELECT sum(temperature * weight) / sum(weight)
            FROM '{output_dir}/items/objective.parquet'
            WHERE size = 'size-3' GROUP BY num_pairs ORDER BY num_pairs"""
    ).fetchall()
    assert [mean for (mean,) in means] == pytest.approx(curve.value.tolist())


def test_the_page_needs_no_network(report: tuple[Findings, Path]) -> None:
    page = (report[1] / "report.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:|figures/)[^"]*"', page) == []
    assert "url(" not in page
    assert "out of memory" in page


def test_the_same_seed_gives_the_same_numbers(
    ladder: Path, report: tuple[Findings, Path], tmp_path: Path
) -> None:
    config = ReportConfig(
        runs=ladder,
        output_dir=tmp_path,
        test_sets=("adversarial",),
        bootstrap=BootstrapConfig(num_resamples=200),
        png_dpi=60,
        num_workers=1,
    )
    run_report(config, Path("configs/scaling/report.yaml"))
    alone = json.loads((tmp_path / "fits.json").read_text())["test_sets"]["adversarial"]
    among = json.loads((report[1] / "fits.json").read_text())["test_sets"]["adversarial"]
    for size, curve in alone["series"]["raw"]["sizes"].items():
        assert curve["slope_interval"] == among["series"]["raw"]["sizes"][size]["slope_interval"]
        assert curve["forms"] == among["series"]["raw"]["sizes"][size]["forms"]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_the_charts_are_drawn_and_react_in_a_browser(
    report: tuple[Findings, Path], tmp_path: Path
) -> None:
    page = (report[1] / "report.html").read_text()
    clicks = """<script>
      document.querySelector('[data-reading="accuracy"]').click();
      document.querySelector('[data-size="size-0"]').click();
      document.querySelector("#charts circle").dispatchEvent(new MouseEvent("mousemove"));
    </script></body>"""
    clicked = tmp_path / "clicked.html"
    clicked.write_text(page.replace("</body>", clicks))
    dom = _open(clicked, tmp_path)
    assert dom.count('<div class="chart">') == 4
    assert 'class="size off"' in dom
    tip = re.search(r'<div id="tip"[^>]*>([^<]*)', dom)
    assert tip is not None
    assert "size-1" in tip[1]
    assert "accuracy 0." in tip[1]


def _open(page: Path, profile: Path) -> str:
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
        "--disable-background-networking --disable-component-update --disable-sync --dump-dom"
    )
    done = subprocess.run(
        [str(CHROMIUM), *flags.split(), f"--user-data-dir={profile / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_a_directory_without_runs_is_the_users_mistake(tmp_path: Path, project_root: Path) -> None:
    config = str(project_root / "configs" / "scaling" / "report.yaml")
    arguments = ["scaling", "report", config, f"runs={tmp_path}", f"output_dir={tmp_path / 'out'}"]
    with pytest.raises(Exception, match="holds no run"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()
