"""`worldpm scaling fit|report`: laws from points, and the whole report from run directories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worldpm.cli.common import config_arguments, read_config

if TYPE_CHECKING:
    from scaling.config import FitConfig, ReportConfig


@click.group()
def command() -> None:
    """Fit scaling laws and write the report.

    `fit` fits one law to the points of a CSV file; `report` reads run directories and writes
    figures, fits with intervals and verdicts, and one self-contained HTML page.
    """


@command.command("fit")
@config_arguments
def fit_command(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Fit a law to points: OUTPUT_DIR/fits.json holds every number with its interval.

    \b
    worldpm scaling fit configs/scaling/joint.yaml input=POINTS.csv output_dir=FIT
        columns num_params,num_samples,loss; loss = E + A/N^alpha + B/D^beta
    worldpm scaling fit configs/scaling/curve.yaml input=POINTS.csv output_dir=FIT
        columns num_samples,loss; constant, log-linear, pure, offset and broken power law
    """
    from scaling.config import FitConfig

    config = read_config(FitConfig, config_path, overrides, dry_run=dry_run, plan=_plan_fit)
    if config is None:
        return
    from scaling.fit import FITS_FILE, run_fit

    result = run_fit(config, config_path)
    for name, interval in result.get("intervals", {}).items():
        click.echo(f"{name:6} {result[name]:.6g}  [{interval[0]:.6g}, {interval[1]:.6g}]")
    if config.law == "curve":
        click.echo(f"best form by AICc: {result['best_by_aicc']}, by BIC: {result['best_by_bic']}")
    click.echo(f"wrote {config.output_dir / FITS_FILE}")


def _plan_fit(config: FitConfig) -> list[str]:
    return [
        f"read {config.input}, fit the {config.law} law",
        f"write {config.output_dir / 'fits.json'}",
    ]


@command.command("report")
@config_arguments
def report_command(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Read run directories; write report.html, report.md, figures/ and fits.json.

    \b
    worldpm scaling report configs/scaling/report.yaml runs=RUNS output_dir=REPORT

    The page needs no network. Every run or evaluation that is left out is listed with its reason.
    """
    from scaling.config import ReportConfig

    config = read_config(ReportConfig, config_path, overrides, dry_run=dry_run, plan=_plan_report)
    if config is None:
        return
    from scaling.report import run_report

    findings = run_report(config, config_path)
    for sentence in findings.summary:
        click.echo(sentence)
    click.echo(f"wrote {config.output_dir / 'report.html'}")


def _plan_report(config: ReportConfig) -> list[str]:
    return [
        f"read every run below {config.runs}",
        f"write report.html, report.md, fits.json and figures/ to {config.output_dir}",
    ]
