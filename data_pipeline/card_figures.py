"""The figures of the data card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_pipeline.group_tables import MARGIN_BUCKETS
from data_pipeline.statistics import MAX_ANSWERS, MAX_VOTES, GroupStatistics
from worldpm.artifacts import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOUR, LOST_COLOUR = "#2a6f97", "#c9c9c9"


def write_figures(
    folder: Path, counts: Mapping[str, Mapping[str, Any]], statistics: GroupStatistics
) -> None:
    """Write `waterfall.png` and `distributions.png`."""
    _save(_waterfall(counts), folder / "waterfall.png")
    _save(_distributions(statistics), folder / "distributions.png")


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    # No software name in the file: the bytes depend on the data alone.
    write_atomic(
        path,
        lambda hidden: figure.savefig(hidden, dpi=110, format="png", metadata={"Software": None}),
    )


def _waterfall(counts: Mapping[str, Mapping[str, Any]]) -> Figure:
    figure = _new_figure(8, 0.45 * len(counts) + 1.2)
    axes = figure.add_subplot()
    names = list(counts)
    kept = [counts[name]["rows_out"] for name in names]
    lost = [counts[name]["rows_in"] - counts[name]["rows_out"] for name in names]
    axes.barh(names, kept, color=COLOUR, label="kept")
    axes.barh(names, lost, left=kept, color=LOST_COLOUR, label="dropped")
    for place, (num_kept, num_lost) in enumerate(zip(kept, lost, strict=True)):
        axes.text(num_kept + num_lost, place, f"  {num_kept:,}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("questions and answers")
    axes.legend(loc="lower right", frameon=False)
    _plain(axes)
    figure.subplots_adjust(left=0.19, right=0.97, top=0.97, bottom=0.6 / figure.get_figheight())
    return figure


def _distributions(statistics: GroupStatistics) -> Figure:
    figure = _new_figure(10, 6)
    axes = figure.subplots(2, 3).flatten()
    lengths = sorted(statistics.response_length)
    _bars(axes[0], _powers(lengths), statistics.response_length, lengths)
    axes[0].set(title="length of answers", xlabel="characters, from")
    questions = sorted(statistics.question_length)
    _bars(axes[1], _powers(questions), statistics.question_length, questions)
    axes[1].set(title="length of questions", xlabel="characters, from")
    axes[2].bar(list(statistics.votes), list(statistics.votes.values()), color=COLOUR, width=1.0)
    axes[2].set(title="votes of answers", xlabel=f"net votes, cut at ±{MAX_VOTES}", yscale="log")
    axes[3].bar(list(statistics.answers), list(statistics.answers.values()), color=COLOUR)
    axes[3].set(title="answers of a question", xlabel=f"answers, cut at {MAX_ANSWERS}")
    means = [statistics.votes_by_length[b] / statistics.response_length[b] for b in lengths]
    axes[4].plot(range(len(lengths)), means, "o-", color=COLOUR)
    axes[4].set_xticks(range(len(lengths)), _powers(lengths), rotation=90, fontsize=7)
    axes[4].set(title="mean votes by length", xlabel="characters, from")
    _bars(axes[5], list(MARGIN_BUCKETS), statistics.margins, MARGIN_BUCKETS)
    axes[5].set(title="margins of pairs", xlabel="difference of scores")
    for one in axes:
        _plain(one)
    figure.subplots_adjust(left=0.06, right=0.99, top=0.95, bottom=0.14, hspace=0.65, wspace=0.25)
    return figure


def _bars(axes: Axes, labels: list[str], counter: Mapping[Any, int], keys: Any) -> None:
    axes.bar(range(len(labels)), [counter.get(key, 0) for key in keys], color=COLOUR)
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)


def _powers(bins: list[int]) -> list[str]:
    return [f"{2**power:,}" for power in bins]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
