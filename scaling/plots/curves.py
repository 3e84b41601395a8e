"""Loss against training pairs: Figure 1, with and without style control: Figure 4, residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.analysis import CurveAnalysis, SetAnalysis
from scaling.loss_series import SeriesName
from scaling.plots.canvas import (
    GREY,
    new_figure,
    samples_axis,
    size_colours,
    size_legend,
    size_markers,
)

VERDICT_MARKS = {"falls": "↓", "rises": "↑", "flat": "→", "breaks": "⌇", "undecided": "?"}
CHANCE = float(np.log(2.0))


def sizes_of(sets: Sequence[SetAnalysis]) -> list[str]:
    """All sizes from small to large."""
    sizes = {
        (analysis.curve.num_params, analysis.curve.size)
        for one_set in sets
        for analysis in one_set.series["raw"].curves
    }
    return [size for _, size in sorted(sizes)]


def loss_figure(
    group: Sequence[SetAnalysis], sizes: Sequence[str], series: SeriesName = "raw"
) -> Figure:
    """One panel a test set: points, interval bands, the selected law dashed, verdicts."""
    with new_figure(len(group)) as (figure, axes):
        for axis, one_set in zip(axes, group, strict=True):
            _draw_curves(axis, one_set.series[series].curves, sizes)
            axis.set_title(one_set.test_set)
            _note_verdicts(axis, one_set, series)
        axes[0].set_ylabel("Bradley-Terry loss")
        size_legend(figure, axes, sizes)
    return figure


def accuracy_figure(group: Sequence[SetAnalysis], sizes: Sequence[str]) -> Figure:
    """Accuracy against training pairs, a tie counting one half."""
    with new_figure(len(group)) as (figure, axes):
        for axis, one_set in zip(axes, group, strict=True):
            _draw_curves(axis, one_set.accuracy, sizes)
            axis.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
            axis.set_title(one_set.test_set)
        axes[0].set_ylabel("accuracy")
        size_legend(figure, axes, sizes)
    return figure


def style_control_figure(group: Sequence[SetAnalysis], sizes: Sequence[str]) -> Figure:
    """Figure 4: loss at the best temperature with (solid) and without (dotted) style control."""
    colours, markers = size_colours(sizes), size_markers(sizes)
    with new_figure(len(group)) as (figure, axes):
        for axis, one_set in zip(axes, group, strict=True):
            for name, line in (("temperature", ":"), ("style", "-")):
                for analysis in one_set.series[name].curves:  # type: ignore[index]
                    curve = analysis.curve
                    axis.plot(
                        curve.num_samples,
                        curve.value,
                        linestyle=line,
                        color=colours[curve.size],
                        marker=markers[curve.size] if line == "-" else None,
                        label=curve.size if line == "-" else None,
                    )
            samples_axis(axis)
            axis.set_title(one_set.test_set)
        axes[0].set_ylabel("loss at best temperature")
        size_legend(figure, axes, sizes)
        figure.suptitle("solid: style controlled, dotted: not", fontsize=8, color=GREY)
    return figure


def residual_figure(group: Sequence[SetAnalysis], sizes: Sequence[str]) -> Figure:
    """Relative error of the selected form at every point of the raw series."""
    colours, markers = size_colours(sizes), size_markers(sizes)
    with new_figure(len(group)) as (figure, axes):
        for axis, one_set in zip(axes, group, strict=True):
            for analysis in one_set.series["raw"].curves:
                if analysis.selected is None:
                    continue
                curve = analysis.curve
                fitted = analysis.fits[analysis.selected].predict(curve.num_samples)
                axis.plot(
                    curve.num_samples,
                    100 * np.log(curve.value / fitted),
                    color=colours[curve.size],
                    marker=markers[curve.size],
                    linewidth=0.7,
                    label=curve.size,
                )
            axis.axhline(0.0, color=GREY, linewidth=0.8)
            samples_axis(axis)
            axis.set_title(one_set.test_set)
        axes[0].set_ylabel("residual of ln loss, %")
        size_legend(figure, axes, sizes)
    return figure


def _draw_curves(axis: Axes, curves: Sequence[CurveAnalysis], sizes: Sequence[str]) -> None:
    colours, markers = size_colours(sizes), size_markers(sizes)
    for analysis in curves:
        curve, colour = analysis.curve, colours[analysis.curve.size]
        axis.fill_between(
            curve.num_samples, analysis.bands[0], analysis.bands[1], color=colour, alpha=0.13, lw=0
        )
        axis.plot(
            curve.num_samples,
            curve.value,
            color=colour,
            marker=markers[curve.size],
            linestyle="" if analysis.selected else "-",
            label=curve.size,
        )
        if analysis.selected:
            grid = np.geomspace(curve.num_samples.min(), curve.num_samples.max(), 80)
            fitted = analysis.fits[analysis.selected].predict(grid)
            axis.plot(grid, fitted, color=colour, linestyle="--", linewidth=1.1)
    samples_axis(axis)


def _note_verdicts(axis: Axes, one_set: SetAnalysis, series: SeriesName) -> None:
    curves = one_set.series[series].curves
    marks = " ".join(VERDICT_MARKS[analysis.verdict] for analysis in curves)
    emergent = [found.size for found in one_set.series[series].emergence if found.emergent]
    axis.set_title(marks, loc="right", fontsize=8.5, fontweight="normal")
    if emergent:
        axis.text(
            0.98, 0.98, f"emergent at {emergent[0]}", transform=axis.transAxes,
            ha="right", va="top", fontsize=7, color=GREY,
        )  # fmt: skip
