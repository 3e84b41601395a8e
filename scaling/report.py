"""`worldpm scaling report`: run directories in; figures, fits, and one page for people out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scaling.alignment import read_best_of_n, read_fine_tuning
from scaling.analysis import SetAnalysis, analyse_set
from scaling.collect import (
    Run,
    ScoreTable,
    choose_runs,
    find_runs,
    read_score_tables,
    summarise_left_out,
    usable_points,
)
from scaling.conclusions import conclude
from scaling.config import ReportConfig
from scaling.figures import draw_figures
from scaling.findings import Findings
from scaling.fits_json import chart_data, describe_iso_flop, describe_set, describe_style
from scaling.iso_flop import fit_iso_flop
from scaling.loss_series import item_losses, write_items
from scaling.page import Page, write_page
from scaling.style import StyleReading, read_style, style_features
from scaling.summary import compare_with_paper
from scaling.worker_pool import map_in_order
from worldpm.artifacts import write_json
from worldpm.errors import InputError
from worldpm.log import logger, progress

FITS_FILE = "fits.json"
ITEMS_DIRECTORY = "items"


def run_report(config: ReportConfig, config_path: Path) -> Findings:
    """Analyse the runs below `config.runs` and write the report to `config.output_dir`.

    Raises:
        InputError: there are no runs, or none with an evaluation of a test set.
    """
    findings = analyse_runs(config)
    command = report_command(config, config_path)
    commands = {
        one_set.test_set: f"{command} {shlex.quote(f'test_sets=[{one_set.test_set}]')}"
        for one_set in findings.sets
    }
    write_json(
        config.output_dir / FITS_FILE, describe_findings(findings, config, command, commands)
    )
    figures = draw_figures(findings, config)
    write_page(
        config.output_dir,
        Page(
            title=config.title,
            summary=findings.summary,
            comparison=compare_with_paper(findings.sets),
            sets=findings.sets,
            runs=findings.runs,
            left_out=findings.left_out,
            figures=figures,
            charts=chart_data(findings.sets),
            command=command,
            config=config,
        ),
    )
    return findings


def analyse_runs(config: ReportConfig) -> Findings:
    """Collect, fit and judge."""
    found, unreadable = find_runs(config.runs)
    runs, not_chosen = choose_runs(found)
    points, kinds, unused = usable_points(runs, min_pairs=config.rules.min_pairs)
    if config.test_sets is not None:
        kinds = {name: kind for name, kind in kinds.items() if name in config.test_sets}
    if not points or not kinds:
        reasons = summarise_left_out([*unreadable, *not_chosen, *unused])
        raise InputError(
            f"{config.runs}: no evaluation to fit; "
            + ("; ".join(f"{count} × {why}" for why, count in reasons.items()) or "no test set")
        )
    logger.info("%d runs, %d evaluations, %d test sets", len(runs), len(points), len(kinds))
    tables, dropped = read_score_tables(points, kinds)
    if not tables:
        raise InputError(f"{config.runs}: no test set has pairs that every evaluation scored")
    analysed = _analyse_tables(tables, runs, config)
    sets = [one_set for one_set, _ in analysed]
    best_of_n = [] if config.best_of_n is None else read_best_of_n(config.best_of_n)
    gains, without_baseline = (
        ([], []) if config.finetuning is None else read_fine_tuning(config.finetuning)
    )
    conclude(sets, config.bootstrap, config.rules)
    return Findings(
        sets=sets,
        styles={one_set.test_set: style for one_set, style in analysed},
        iso_flop={
            one_set.test_set: fit_iso_flop(
                [analysis.noisy_curve for analysis in one_set.series["raw"].curves],
                confidence=config.bootstrap.confidence,
            )
            for one_set in sets
        },
        runs=runs,
        left_out=[*unreadable, *not_chosen, *unused, *dropped, *without_baseline],
        best_of_n=best_of_n,
        fine_tuning=gains,
    )


def report_command(config: ReportConfig, config_path: Path) -> str:
    """The command that writes this report again, number by number."""
    return shlex.join(
        [
            "worldpm", "scaling", "report", str(config_path), f"runs={config.runs}",
            f"output_dir={config.output_dir}", f"bootstrap.seed={config.bootstrap.seed}",
            f"bootstrap.num_resamples={config.bootstrap.num_resamples}",
        ]
    )  # fmt: skip


def describe_findings(
    findings: Findings, config: ReportConfig, command: str, commands: dict[str, str]
) -> dict[str, Any]:
    """The content of `fits.json`."""
    return {
        "command": command,
        "rules": config.rules.model_dump(mode="json"),
        "bootstrap": config.bootstrap.model_dump(mode="json"),
        "definitions": {
            "size": "num_params_non_embedding: all weights but the token embedding",
            "data": "num_pairs: training pairs consumed",
            "loss": "mean Bradley-Terry loss in nats per pair",
        },
        "summary": findings.summary,
        "test_sets": {
            one_set.test_set: {
                **describe_set(one_set, {"report": commands[one_set.test_set]}),
                "style": describe_style(findings.styles[one_set.test_set]),
                "iso_flop": describe_iso_flop(findings.iso_flop[one_set.test_set]),
            }
            for one_set in findings.sets
        },
        "runs": [_describe_run(run) for run in findings.runs],
        "left_out": [asdict(entry) for entry in findings.left_out],
    }


def _analyse_tables(
    tables: Sequence[ScoreTable], runs: Sequence[Run], config: ReportConfig
) -> list[tuple[SetAnalysis, StyleReading]]:
    jobs = [(table, runs, config) for table in tables]
    with progress("test sets", len(jobs)) as bar:
        results: list[tuple[SetAnalysis, StyleReading]] = []
        for result in map_in_order(_analyse_job, jobs, config.num_workers):
            results.append(result)
            bar.advance()
        return results


def _analyse_job(
    job: tuple[ScoreTable, Sequence[Run], ReportConfig],
) -> tuple[SetAnalysis, StyleReading]:
    table, runs, config = job
    features = style_features(table, runs)
    losses = item_losses(table, features.features_QF)
    if config.write_items:
        write_items(config.output_dir / ITEMS_DIRECTORY, table, losses)
    one_set = analyse_set(table, losses, config.bootstrap, config.rules)
    return one_set, read_style(table, features)


def _describe_run(run: Run) -> dict[str, Any]:
    record = run.record
    return {
        "name": record.name,
        "directory": str(run.directory),
        "size": run.size,
        "status": record.status,
        "seed": record.seed,
        "num_params": record.num_params,
        "num_params_non_embedding": record.num_params_non_embedding,
        "num_pairs": record.num_pairs,
        "num_tokens": record.num_tokens,
        "flops": record.flops,
        "commit": record.environment.get("commit"),
        "data_fingerprint": record.data_fingerprint,
        "pair_chain": record.pair_chain,
    }
