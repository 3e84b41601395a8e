"""Figures of evaluations: accuracies with intervals, reliability, reliance on style."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from worldpm.artifacts import atomic_file

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#8a94a3"


def accuracy_figure(evaluations: Mapping[str, Mapping[str, Any]], protocol: str) -> Figure:
    """Accuracy with its 95 % interval per benchmark and evaluation, beside the length baseline."""
    names = list(dict.fromkeys(name for one in evaluations.values() for name in one["benchmarks"]))
    figure = _figure(8, 0.8 + 0.32 * len(names) * max(1, len(evaluations) / 2))
    axes = figure.subplots()
    offsets = _offsets(len(evaluations))
    for (label, one), colour, offset in zip(
        evaluations.items(), _cycle(len(evaluations)), offsets, strict=True
    ):
        _accuracy_points(
            axes, one, names, protocol=protocol, label=label, colour=colour, offset=offset
        )
    first = next(iter(evaluations.values()))
    baselines = [
        first["benchmarks"].get(name, {}).get(protocol, {}).get("length_baseline") for name in names
    ]
    axes.plot(
        [value if value is not None else float("nan") for value in baselines],
        range(len(names)),
        linestyle="none",
        marker="|",
        markersize=12,
        color=GREY,
        label="longer response",
    )
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"accuracy ({protocol} rule), 95 % bootstrap interval")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def reliability_figure(report: Mapping[str, Any]) -> Figure:
    """How often the higher score is right against its predicted probability, per benchmark."""
    details = {name: one for name, one in report["details"].items() if "calibration" in one}
    columns = min(4, max(1, len(details)))
    rows = max(1, ceil(len(details) / columns))
    figure = _figure(2.4 * columns, 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(details) :]:
        axes.set_visible(False)
    for axes, (name, one) in zip(grid.flat, details.items(), strict=False):
        axes.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=0.8, linestyle=":")
        for key, colour in (("raw", COLOURS[0]), ("at_best_temperature", COLOURS[1])):
            bins = one["calibration"][key]["bins"]
            label = key.replace("_", " ")
            confidences = [b["confidence"] for b in bins]
            accuracies = [b["accuracy"] for b in bins]
            axes.plot(confidences, accuracies, marker=".", color=colour, label=label)
        raw, fitted = (one["calibration"][key]["ece"] for key in ("raw", "at_best_temperature"))
        axes.set_title(f"{name}\nECE {raw:.3f}, {fitted:.3f} at best τ", fontsize=8)
        axes.set_xlim(0.5, 1)
        axes.set_ylim(0, 1)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", fontsize=8, frameon=False, ncols=2)
    figure.supxlabel("predicted probability of the higher score", fontsize=9)
    figure.supylabel("share of pairs it is right on", fontsize=9)
    return figure


def style_figure(report: Mapping[str, Any]) -> Figure:
    """φ of the model's choices with "longer" and "more Markdown", beside the labels' own φ."""
    phis = {
        name: one["style_control"]["phi"]
        for name, one in report["details"].items()
        if one.get("style_control")
    }
    figure = _figure(8, 0.9 + 0.34 * max(1, len(phis)))
    for axes, style in zip(
        figure.subplots(1, 2, sharey=True), ("longer", "more_markdown"), strict=True
    ):
        for who, colour in (("prediction", COLOURS[0]), ("label", COLOURS[1])):
            values = [phi[f"{who}_{style}"] for phi in phis.values()]
            axes.plot(
                [float("nan") if value is None else value for value in values],
                range(len(phis)),
                linestyle="none",
                marker="o" if who == "prediction" else "x",
                color=colour,
                label=who,
            )
        axes.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xlim(-1, 1)
        axes.set_xlabel(f"φ with {style.replace('_', ' ')}")
        axes.set_yticks(range(len(phis)), list(phis))
    figure.axes[0].invert_yaxis()
    figure.axes[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> str:
    """Write `<name>.png` and `<name>.svg`; returns the SVG's text, the same for the same figure."""
    FigureCanvasAgg(figure)
    with mpl.rc_context({"svg.hashsalt": name}):
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight")
    svg = text.getvalue()
    with atomic_file(folder / f"{name}.svg") as file:
        file.write(svg)
    with atomic_file(folder / f"{name}.png", "wb") as file:
        figure.savefig(file, format="png", dpi=150, bbox_inches="tight")
    return svg[svg.index("<svg") :]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _cycle(count: int) -> Sequence[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _offsets(count: int) -> Sequence[float]:
    return [0.0] if count == 1 else [0.5 * (index / (count - 1) - 0.5) for index in range(count)]


def _accuracy_points(
    axes: Axes,
    evaluation: Mapping[str, Any],
    names: Sequence[str],
    *,
    protocol: str,
    label: str,
    colour: str,
    offset: float,
) -> None:
    positions, values, lows, highs = [], [], [], []
    for index, name in enumerate(names):
        block = evaluation["benchmarks"].get(name, {}).get(protocol)
        if block is None:
            continue
        low, high = block["interval"] or (block["accuracy"], block["accuracy"])
        positions.append(index + offset)
        values.append(block["accuracy"])
        lows.append(max(0.0, block["accuracy"] - low))
        highs.append(max(0.0, high - block["accuracy"]))
    axes.errorbar(
        values, positions, xerr=[lows, highs], fmt="o", color=colour, capsize=2, label=label
    )
