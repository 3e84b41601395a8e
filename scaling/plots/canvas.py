"""One look for all figures: fonts, colours that the colour-blind can tell apart, axes, saving."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from scaling.number_text import short_number

PANEL_WIDTH, PANEL_HEIGHT = 3.1, 2.5  # inches; two panels fill a column of a paper
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LEGEND_ENTRY_WIDTH = 1.0  # inches
# Okabe and Ito's palette: for categories without an order.
CATEGORY_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#6b6b6b"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "worldpm",  # the same figure has the same bytes
    "figure.dpi": 100,
}


def size_colours(sizes: Sequence[str]) -> dict[str, str]:
    """A colour for each size, dark for small to bright for large: order shows without colour."""
    palette = mpl.colormaps["viridis"]
    span = max(len(sizes) - 1, 1)
    return {size: to_hex(palette(0.02 + 0.82 * index / span)) for index, size in enumerate(sizes)}


def size_markers(sizes: Sequence[str]) -> dict[str, str]:
    """A marker for each size, so that colour is never the only difference."""
    return {size: MARKERS[index % len(MARKERS)] for index, size in enumerate(sizes)}


@contextmanager
def new_figure(
    num_panels: int, *, columns: int = 3, extra_height: float = 0.7
) -> Generator[tuple[Figure, list[Axes]]]:
    """A figure of equal panels in the project's style, without the global state of pyplot."""
    columns = min(columns, num_panels)
    rows = -(-num_panels // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(PANEL_WIDTH * columns, PANEL_HEIGHT * rows + extra_height),
            layout="constrained",
        )
        FigureCanvasAgg(figure)
        axes = [figure.add_subplot(rows, columns, index + 1) for index in range(num_panels)]
        yield figure, axes


def save(figure: Figure, directory: Path, name: str, *, dpi: int) -> Path:
    """Write `name.svg` and `name.png`; returns the PNG's path."""
    directory.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # laid out already; doing it again takes half the time
        figure.savefig(directory / f"{name}.png", dpi=dpi)
    return directory / f"{name}.png"


def samples_axis(axis: Axes, label: str = "training pairs") -> None:
    """A log2 x axis with readable counts."""
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_locator(LogLocator(base=2, numticks=7))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value, digits=2)))
    axis.set_xlabel(label)


def size_legend(figure: Figure, axes: Sequence[Axes], sizes: Sequence[str]) -> None:
    """One legend of the sizes below all panels."""
    found: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    shown = [size for size in sizes if size in found]
    if shown:
        figure.legend(
            [found[size] for size in shown],
            shown,
            loc="outside lower center",
            ncols=max(1, min(len(shown), int(figure.get_figwidth() / LEGEND_ENTRY_WIDTH))),
        )
