"""What people read: a table on the terminal, `report.md`, and a self-contained `report.html`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    "benchmark",
    "group",
    "official",
    "± s.e.",
    "WorldPM rule",
    "BT loss",
    "items",
    "ties",
    "longer",
)


def results_table(report: Mapping[str, Any]) -> str:
    """A plain table of all benchmarks: accuracies in percent, loss in nats."""
    rows = [COLUMNS, *(_row(name, report) for name in report["benchmarks"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(name: str, report: Mapping[str, Any]) -> tuple[str, ...]:
    blocks = report["benchmarks"][name]
    official, worldpm = blocks.get("official", {}), blocks.get("worldpm", {})
    details = report["details"][name]
    partial = "" if details["complete"] is not False else " (part)"
    return (
        name + partial,
        details["group"],
        percent(official.get("accuracy")),
        percent(official.get("standard_error")),
        percent(worldpm.get("accuracy")),
        number(worldpm.get("bt_loss")),
        f"{official.get('num_items', 0):,}",
        f"{official.get('num_ties', 0):,}",
        percent(official.get("length_baseline")),
    )


def percent(value: float | None) -> str:
    """A share as a percentage with two decimals; a dash for none."""
    return "–" if value is None else f"{100 * value:.2f}"


def number(value: float | None) -> str:
    """Four decimals; a dash for none."""
    return "–" if value is None else f"{value:.4f}"
