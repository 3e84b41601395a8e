"""Figure 3: training loss and gradient norm of every size, with the spikes that were recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from scaling.collect import Run
from scaling.plots.canvas import new_figure, samples_axis, size_colours, size_legend
from scaling.robust_fit import Array
from worldpm.run_record import read_metrics

SPIKES_DIRECTORY = "spikes"
SMOOTHING_STEPS = 16
MAX_POINTS = 2_000


@dataclass(frozen=True, slots=True)
class TrainingHistory:
    """One run's log: pairs seen, Bradley-Terry loss, gradient norm (NaN where none), spikes."""

    size: str
    seed: int
    num_pairs: Array
    loss: Array
    grad_norm: Array
    spikes: Array


def read_history(run: Run) -> TrainingHistory:
    """Read `metrics.jsonl` and the recorded spikes of a run."""
    rows = [
        (line["num_pairs"], line.get("bt_loss", line.get("loss")), line.get("grad_norm"))
        for line in read_metrics(run.directory)
        if "num_pairs" in line
    ]
    table = np.array([[_number(value) for value in row] for row in rows], dtype=np.float64).reshape(
        -1, 3
    )
    spikes = [
        json.loads(path.read_text(encoding="utf-8")).get("num_pairs", 0)
        for path in sorted((run.directory / SPIKES_DIRECTORY).glob("step-*.json"))
    ]
    return TrainingHistory(
        size=run.size,
        seed=run.record.seed,
        num_pairs=table[:, 0],
        loss=table[:, 1],
        grad_norm=table[:, 2],
        spikes=np.array(spikes, dtype=np.float64),
    )


def training_figure(histories: Sequence[TrainingHistory], sizes: Sequence[str]) -> Figure:
    """Smoothed loss and gradient norm against pairs; a cross where a spike was recorded."""
    colours = size_colours(sizes)
    with new_figure(2, columns=2) as (figure, axes):
        for history in histories:
            if len(history.num_pairs) == 0:
                continue
            for axis, values in ((axes[0], history.loss), (axes[1], history.grad_norm)):
                _draw(axis, history, values, colours[history.size])
        for axis, label in zip(axes, ("training loss", "gradient norm"), strict=True):
            samples_axis(axis)
            axis.set_title(label)
        if any(np.isfinite(history.grad_norm).any() for history in histories):
            axes[1].set_yscale("log")
            axes[1].yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
            axes[1].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes[1].yaxis.set_minor_formatter(NullFormatter())
        size_legend(figure, axes, sizes)
    return figure


def smooth(values: Array, window: int) -> Array:
    """Trailing mean over `window` values (fewer at the start), ignoring NaN."""
    finite = np.isfinite(values)
    sums = np.cumsum(np.where(finite, values, 0.0))
    counts = np.cumsum(finite)
    back = np.maximum(np.arange(len(values)) - window, -1)
    before_sums = np.where(back >= 0, sums[back], 0.0)
    before_counts = np.where(back >= 0, counts[back], 0)
    size = counts - before_counts
    return np.where(size > 0, (sums - before_sums) / np.maximum(size, 1), np.nan)


def _draw(axis: Axes, history: TrainingHistory, values: Array, colour: str) -> None:
    smoothed = smooth(values, SMOOTHING_STEPS)
    every = max(1, len(smoothed) // MAX_POINTS)
    axis.plot(
        history.num_pairs[::every],
        smoothed[::every],
        color=colour,
        linewidth=1.0,
        alpha=0.9 if history.seed == 0 else 0.4,
        label=history.size,
    )
    at = np.searchsorted(history.num_pairs, history.spikes)
    at = at[at < len(values)]
    axis.plot(history.num_pairs[at], values[at], "x", color=colour, markersize=4.5)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")
