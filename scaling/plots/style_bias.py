"""Figure 5: φ of choice and style beside that of the labels; accuracy by which one is longer."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.plots.canvas import (
    CATEGORY_COLOURS,
    GREY,
    new_figure,
    samples_axis,
    size_colours,
    size_legend,
    size_markers,
)
from scaling.style import StylePoint, StyleReading


def style_bias_figure(readings: dict[str, StyleReading], sizes: Sequence[str]) -> Figure:
    """Two panels a test set: φ with its oracle line, and the two accuracies."""
    with new_figure(2 * len(readings), columns=4) as (figure, axes):
        for index, (name, reading) in enumerate(readings.items()):
            _draw_phi(axes[2 * index], reading, sizes)
            axes[2 * index].set_title(f"{name}: φ with “longer”")
            _draw_split(axes[2 * index + 1], reading, sizes)
            axes[2 * index + 1].set_title("accuracy")
        size_legend(figure, axes, sizes)
    return figure


def _draw_phi(axis: Axes, reading: StyleReading, sizes: Sequence[str]) -> None:
    colours, markers = size_colours(sizes), size_markers(sizes)
    for size, points in _by_size(reading).items():
        shown = [point for point in points if point.phi_longer is not None]
        axis.plot(
            [point.num_pairs for point in shown],
            [float(point.phi_longer or 0.0) for point in shown],
            color=colours[size],
            marker=markers[size],
            label=size,
        )
    if reading.label_phi_longer is not None:
        axis.axhline(reading.label_phi_longer, color=CATEGORY_COLOURS[1], linestyle="--")
        axis.text(
            0.99, reading.label_phi_longer, "labels", transform=axis.get_yaxis_transform(),
            fontsize=7, color=CATEGORY_COLOURS[1], ha="right", va="bottom",
        )  # fmt: skip
    samples_axis(axis)


def _draw_split(axis: Axes, reading: StyleReading, sizes: Sequence[str]) -> None:
    colours = size_colours(sizes)
    for size, points in _by_size(reading).items():
        for name, line in (("accuracy_chosen_longer", "-"), ("accuracy_chosen_shorter", ":")):
            shown = [(point.num_pairs, getattr(point, name)) for point in points]
            shown = [(pairs, value) for pairs, value in shown if value is not None]
            axis.plot(
                [pairs for pairs, _ in shown],
                [value for _, value in shown],
                color=colours[size],
                linestyle=line,
                linewidth=1.0,
            )
    axis.axhline(0.5, color=GREY, linewidth=0.8)
    axis.text(
        0.98, 0.02, "solid: chosen longer, dotted: shorter", transform=axis.transAxes,
        ha="right", va="bottom", fontsize=6.5, color=GREY,
    )  # fmt: skip
    axis.set_ylim(-0.02, 1.02)
    samples_axis(axis)


def _by_size(reading: StyleReading) -> dict[str, list[StylePoint]]:
    """The first seed's points of every size: a line through several seeds would go back."""
    first: dict[str, int] = {}
    lines: dict[str, list[StylePoint]] = {}
    for point in reading.points:
        if point.seed == first.setdefault(point.size, point.seed):
            lines.setdefault(point.size, []).append(point)
    return lines
