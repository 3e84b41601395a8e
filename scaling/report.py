"""`worldpm scaling report`: run directories in; figures, fits, and one page for people out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scaling.alignment import BestOfN, FineTuningGain, read_best_of_n, read_fine_tuning
from scaling.analysis import SetAnalysis, analyse_set
from scaling.collect import (
    LeftOut,
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
from scaling.fits_json import chart_data, describe_iso_flop, describe_set, describe_style
from scaling.iso_flop import IsoFlopLaw, fit_iso_flop
from scaling.loss_series import item_losses, write_items
from scaling.page import Page, write_page
from scaling.plots.alignment import best_of_n_figure, fine_tuning_figure
from scaling.plots.canvas import save
from scaling.plots.compute import frontier_figure, iso_flop_figure
from scaling.plots.curves import (
    accuracy_figure,
    loss_figure,
    residual_figure,
    sizes_of,
    style_control_figure,
)
from scaling.plots.style_bias import style_bias_figure
from scaling.plots.training import read_history, training_figure
from scaling.style import StyleReading, read_style, style_features
from scaling.summary import GROUPS, compare_with_paper, summarise
from worldpm.artifacts import write_json
from worldpm.errors import InputError
from worldpm.log import logger, progress

FITS_FILE = "fits.json"
FIGURES_DIRECTORY = "figures"
ITEMS_DIRECTORY = "items"


@dataclass(frozen=True, slots=True)
class Findings:
    """All that the report says, before it is drawn and written."""

    sets: list[SetAnalysis]
    styles: dict[str, StyleReading]
    iso_flop: dict[str, IsoFlopLaw]
    runs: list[Run]
    left_out: list[LeftOut]
    best_of_n: list[BestOfN]
    fine_tuning: list[FineTuningGain]

    @property
    def summary(self) -> list[str]:
        """The findings in plain words."""
        return summarise(self.sets)


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


def draw_figures(findings: Findings, config: ReportConfig) -> dict[str, tuple[str, Path]]:
    """Draw every figure for which there is data: name → (caption, path of the PNG)."""
    sizes = sizes_of(findings.sets)
    figures: dict[str, tuple[str, Path]] = {}

    def add(name: str, caption: str, draw: Callable[[], Figure]) -> None:
        path = save(draw(), config.output_dir / FIGURES_DIRECTORY, name, dpi=config.png_dpi)
        figures[name] = caption, path

    for group in GROUPS:
        members = [one_set for one_set in findings.sets if one_set.kind == group]
        if members:
            _draw_group(add, group, members, sizes, findings)
    histories = [read_history(run) for run in findings.runs]
    if any(len(history.num_pairs) for history in histories):
        add("training", "Training loss and gradient norm; a cross marks a recorded spike "
            "(the paper's Figure 3).", lambda: training_figure(histories, sizes))  # fmt: skip
    laws = {
        one_set.test_set: (one_set.series["raw"].joint, one_set.series["raw"].curves)
        for one_set in findings.sets
        if one_set.series["raw"].joint.fit is not None
    }
    if laws:
        add("frontier", "Loss against compute: the joint law of every size dashed, the "
            "compute-optimal frontier grey.", lambda: frontier_figure(laws, sizes))  # fmt: skip
    profiles = {name: law for name, law in findings.iso_flop.items() if law.profiles}
    if profiles:
        add("iso_flop", "Loss against size at equal compute; a star marks a bottom inside the "
            "sizes.", lambda: iso_flop_figure(profiles))  # fmt: skip
    if findings.best_of_n:
        add("best_of_n", "Quality and length of the best of N candidates (the paper's Figure 6).",
            lambda: best_of_n_figure(findings.best_of_n))  # fmt: skip
    if findings.fine_tuning:
        add("fine_tuning", "Gain of fine-tuning from a pre-trained checkpoint over the base model, "
            "by its pre-training pairs (the paper's Figure 7).",
            lambda: fine_tuning_figure(findings.fine_tuning))  # fmt: skip
    return figures


def _draw_group(
    add: Callable[[str, str, Callable[[], Figure]], None],
    group: str,
    members: Sequence[SetAnalysis],
    sizes: Sequence[str],
    findings: Findings,
) -> None:
    word = group.replace("_", "-")
    add(f"loss_{group}", f"Loss on {word} sets against training pairs, with 95 % bands over items "
        "and the selected law dashed; arrows give the verdicts from the smallest size to the "
        "largest (the paper's Figure 1).",
        lambda: loss_figure(members, sizes))  # fmt: skip
    add(f"accuracy_{group}", f"Accuracy on {word} sets.", lambda: accuracy_figure(members, sizes))
    add(f"style_{group}", f"Loss on {word} sets with and without style control (the paper's "
        "Figure 4).", lambda: style_control_figure(members, sizes))  # fmt: skip
    readings = {one_set.test_set: findings.styles[one_set.test_set] for one_set in members}
    add(f"bias_{group}", f"Reliance on length on {word} sets (the paper's Figure 5).",
        lambda: style_bias_figure(readings, sizes))  # fmt: skip
    add(f"residuals_{group}", f"Residuals of the selected laws on {word} sets.",
        lambda: residual_figure(members, sizes))  # fmt: skip


def _analyse_tables(
    tables: Sequence[ScoreTable], runs: Sequence[Run], config: ReportConfig
) -> list[tuple[SetAnalysis, StyleReading]]:
    jobs = [(table, runs, config) for table in tables]
    with progress("test sets", len(jobs)) as bar:
        results: list[tuple[SetAnalysis, StyleReading]] = []
        if config.num_workers == 1 or len(jobs) == 1:
            for job in jobs:
                results.append(_analyse_job(job))
                bar.advance()
            return results
        with ProcessPoolExecutor(min(config.num_workers, len(jobs))) as pool:
            for result in pool.map(_analyse_job, jobs):
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
