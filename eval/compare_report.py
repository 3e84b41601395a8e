"""A comparison for people and spreadsheets: Markdown, HTML with its figure, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.compare import Comparison, Difference, Evaluation
from eval.document import Block, Document, Figure, Heading, Paragraph, Table
from eval.published import PublishedNumber
from eval.report import FIGURES_DIRECTORY, number, percent
from worldpm.artifacts import atomic_file


def write_comparison(
    comparison: Comparison, output_dir: Path, published: Sequence[PublishedNumber] = ()
) -> None:
    """Write `compare.md`, `compare.csv`, `compare.html` and the figure."""
    document = _document(comparison, output_dir, published)
    for name, text in (
        ("compare.md", document.to_markdown()),
        ("compare.html", document.to_html()),
    ):
        with atomic_file(output_dir / name) as file:
            file.write(text)
    with atomic_file(output_dir / "compare.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows(_csv_row(one) for one in comparison.differences)


CSV_COLUMNS = (
    "benchmark",
    "first",
    "second",
    "num_items",
    "first_accuracy",
    "second_accuracy",
    "difference",
    "interval_low",
    "interval_high",
    "test",
    "p_value",
    "adjusted_p_value",
    "stands",
)


def _csv_row(one: Difference) -> tuple[Any, ...]:
    return (
        one.benchmark,
        one.first,
        one.second,
        one.num_items,
        one.first_accuracy,
        one.second_accuracy,
        one.difference,
        *one.interval,
        one.test,
        one.p_value,
        one.adjusted_p_value,
        one.stands,
    )


def difference_table(comparison: Comparison) -> Table:
    """The differences for people: accuracies and differences in percent and points."""
    return Table(
        ("benchmark", "first", "second", "items", "1st", "2nd", "Δ", "95 %", "p", "Holm", "stands"),
        tuple(
            (
                one.benchmark,
                one.first,
                one.second,
                f"{one.num_items:,}",
                percent(one.first_accuracy),
                percent(one.second_accuracy),
                f"{100 * one.difference:+.2f}",
                f"{100 * one.interval[0]:+.2f} … {100 * one.interval[1]:+.2f}",
                f"{_p_value(one.p_value)} ({one.test})",
                _p_value(one.adjusted_p_value),
                "yes" if one.stands else "no",
            )
            for one in comparison.differences
        ),
    )


def _p_value(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _document(
    comparison: Comparison, output_dir: Path, published: Sequence[PublishedNumber]
) -> Document:
    from eval.plots import accuracy_figure, save_figure

    named = {one.name: one.report for one in comparison.evaluations}
    svg = save_figure(
        accuracy_figure(named, comparison.protocol), output_dir / FIGURES_DIRECTORY, "compare"
    )
    num_standing = sum(one.stands for one in comparison.differences)
    blocks: list[Block] = [
        Paragraph(
            f"Rule: {comparison.protocol}. {num_standing} of {len(comparison.differences)} "
            "differences stand after Holm's correction over benchmarks at 5 %."
        ),
        difference_table(comparison),
        Figure(svg, f"{FIGURES_DIRECTORY}/compare.svg", "Accuracies with their 95 % intervals."),
        Heading("All numbers"),
        _accuracy_table(comparison, published),
    ]
    if comparison.skipped:
        blocks += [Heading("Not compared"), Table(("benchmark", "reason"), comparison.skipped)]
    return Document("Comparison of evaluations", blocks)


def _accuracy_table(comparison: Comparison, published: Sequence[PublishedNumber]) -> Table:
    names = list(
        dict.fromkeys(n for one in comparison.evaluations for n in one.report["benchmarks"])
    )
    rows = [
        (f"{one.name}: {label}", *(cell(_block(one, name, comparison.protocol)) for name in names))
        for one in comparison.evaluations
        for label, cell in (("accuracy ± s.e.", _accuracy_cell), ("BT loss", _loss_cell))
    ]
    by_model: dict[str, dict[str, float]] = {}
    for number_ in published:
        if number_.protocol == comparison.protocol and number_.benchmark in names:
            key = f"published: {number_.model} ({number_.source})"
            by_model.setdefault(key, {})[number_.benchmark] = number_.accuracy
    rows += [
        (model, *(f"{values[name]:.2f}" if name in values else "–" for name in names))
        for model, values in by_model.items()
    ]
    return Table(("model", *names), tuple(rows))


def _block(one: Evaluation, name: str, protocol: str) -> Mapping[str, Any]:
    return one.report["benchmarks"].get(name, {}).get(protocol, {})


def _accuracy_cell(block: Mapping[str, Any]) -> str:
    if not block:
        return "–"
    return f"{percent(block['accuracy'])} ± {percent(block['standard_error'])}"


def _loss_cell(block: Mapping[str, Any]) -> str:
    return number(block.get("bt_loss"))
