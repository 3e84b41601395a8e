"""Which figures a report has, and drawing them, several processes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scaling.config import ReportConfig
from scaling.findings import Findings
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
from scaling.summary import GROUPS
from scaling.worker_pool import map_in_order

FIGURES_DIRECTORY = "figures"


@dataclass(frozen=True, slots=True)
class FigurePlan:
    """A figure to draw: its file's name, its caption, and the call that makes it."""

    name: str
    caption: str
    draw: Callable[..., Figure]
    arguments: tuple[Any, ...]


def draw_figures(findings: Findings, config: ReportConfig) -> dict[str, tuple[str, Path]]:
    """Draw every figure for which there is data: name → (caption, path of the PNG)."""
    plans = list(plan_figures(findings))
    jobs = [(plan, config.output_dir / FIGURES_DIRECTORY, config.png_dpi) for plan in plans]
    paths = list(map_in_order(_draw, jobs, config.num_workers))
    return {plan.name: (plan.caption, path) for plan, path in zip(plans, paths, strict=True)}


def plan_figures(findings: Findings) -> Iterator[FigurePlan]:
    """The figures in the order of the page."""
    sizes = sizes_of(findings.sets)
    for group in GROUPS:
        if any(one_set.kind == group for one_set in findings.sets):
            yield from _plan_group(group, findings, sizes)
    histories = [read_history(run) for run in findings.runs]
    if any(len(history.num_pairs) for history in histories):
        yield FigurePlan(
            "training", "Training loss and gradient norm; a cross marks a recorded spike "
            "(the paper's Figure 3).", training_figure, (histories, sizes),
        )  # fmt: skip
    laws = {
        one_set.test_set: (one_set.series["raw"].joint, one_set.series["raw"].curves)
        for one_set in findings.sets
        if one_set.series["raw"].joint.fit is not None
    }
    if laws:
        yield FigurePlan(
            "frontier", "Loss against compute: the joint law of every size dashed, the "
            "compute-optimal frontier grey.", frontier_figure, (laws, sizes),
        )  # fmt: skip
    profiles = {name: law for name, law in findings.iso_flop.items() if law.profiles}
    if profiles:
        yield FigurePlan(
            "iso_flop", "Loss against size at equal compute; a star marks a bottom inside the "
            "sizes.", iso_flop_figure, (profiles,),
        )  # fmt: skip
    if findings.best_of_n:
        yield FigurePlan(
            "best_of_n", "Quality and length of the best of N candidates (the paper's Figure 6).",
            best_of_n_figure, (findings.best_of_n,),
        )  # fmt: skip
    if findings.fine_tuning:
        yield FigurePlan(
            "fine_tuning", "Gain of fine-tuning from a pre-trained checkpoint over the base model, "
            "by its pre-training pairs (the paper's Figure 7).",
            fine_tuning_figure, (findings.fine_tuning,),
        )  # fmt: skip


def _plan_group(group: str, findings: Findings, sizes: Sequence[str]) -> Iterator[FigurePlan]:
    members = [one_set for one_set in findings.sets if one_set.kind == group]
    readings = {one_set.test_set: findings.styles[one_set.test_set] for one_set in members}
    word = group.replace("_", "-")
    yield FigurePlan(
        f"loss_{group}", f"Loss on {word} sets against training pairs, with 95 % bands over items "
        "and the selected law dashed; arrows give the verdicts from the smallest size to the "
        "largest (the paper's Figure 1).", loss_figure, (members, sizes),
    )  # fmt: skip
    yield FigurePlan(
        f"accuracy_{group}", f"Accuracy on {word} sets.", accuracy_figure, (members, sizes)
    )
    yield FigurePlan(
        f"style_{group}", f"Loss on {word} sets with and without style control (the paper's "
        "Figure 4).", style_control_figure, (members, sizes),
    )  # fmt: skip
    yield FigurePlan(
        f"bias_{group}", f"Reliance on length on {word} sets (the paper's Figure 5).",
        style_bias_figure, (readings, sizes),
    )  # fmt: skip
    yield FigurePlan(
        f"residuals_{group}", f"Residuals of the selected laws on {word} sets.",
        residual_figure, (members, sizes),
    )  # fmt: skip


def _draw(job: tuple[FigurePlan, Path, int]) -> Path:
    plan, directory, dpi = job
    return save(plan.draw(*plan.arguments), directory, plan.name, dpi=dpi)
