"""What people read: a table on the terminal, `report.md`, and a self-contained `report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.document import Block, Document, Figure, Heading, Paragraph, Table
from eval.published import PublishedNumber
from worldpm.artifacts import atomic_file

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
    "shorter",
)
FIGURES_DIRECTORY = "figures"


def results_table(report: Mapping[str, Any]) -> str:
    """A plain table of all benchmarks: accuracies in percent, loss in nats."""
    return plain_table(COLUMNS, _accuracy_rows(report))


def plain_table(columns: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> str:
    """Cells aligned in columns, for a terminal."""
    rows = [columns, *body]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write_report(
    report: Mapping[str, Any], output_dir: Path, published: Sequence[PublishedNumber] = ()
) -> None:
    """Write `report.md`, `report.html` and `figures/*.{png,svg}` for one evaluation."""
    document = Document(
        f"Evaluation: {report['suite']}",
        [
            *_accuracies(report),
            *_figures(report, output_dir),
            *_losses(report),
            *_styles(report),
            *_probes(report),
            *_published(report, published),
            *_missing(report),
        ],
    )
    for name, text in (("report.md", document.to_markdown()), ("report.html", document.to_html())):
        with atomic_file(output_dir / name) as file:
            file.write(text)


def _accuracies(report: Mapping[str, Any]) -> list[Block]:
    return [
        Paragraph(f"Scores of {report['scores_of']}."),
        Heading("Accuracy and Bradley-Terry loss"),
        Table(COLUMNS, tuple(_accuracy_rows(report))),
        Paragraph(
            "official: the authors' rule; WorldPM rule: pairs, ties one half; BT loss: mean "
            "−log σ(margin) in nats; longer, shorter: what length alone earns."
        ),
    ]


def _losses(report: Mapping[str, Any]) -> list[Block]:
    columns = ("benchmark", "BT loss", "± s.e.", "at best τ (cross-fitted)", "τ", "ECE", "ECE at τ")
    return [
        Heading("Loss at its best temperature, and calibration"),
        Table(columns, tuple(_loss_rows(report))),
    ]


def _styles(report: Mapping[str, Any]) -> list[Block]:
    columns = (
        "benchmark",
        "no control",
        "all, in-sample",
        "all, cross-fitted",
        "length only",
        "Markdown only",
        "chosen longer",
        "chosen shorter",
    )
    return [Heading("Style control"), Table(columns, tuple(_style_rows(report)))]


def percent(value: float | None) -> str:
    """A share as a percentage with two decimals; a dash for none."""
    return "–" if value is None else f"{100 * value:.2f}"


def number(value: float | None) -> str:
    """Four decimals; a dash for none."""
    return "–" if value is None else f"{value:.4f}"


def _accuracy_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, blocks in report["benchmarks"].items():
        official, worldpm = blocks.get("official", {}), blocks.get("worldpm", {})
        details = report["details"][name]
        rows.append(
            (
                name + (" (part)" if details["complete"] is False else ""),
                details["group"],
                percent(official.get("accuracy")),
                percent(official.get("standard_error")),
                percent(worldpm.get("accuracy")),
                number(worldpm.get("bt_loss")),
                f"{official.get('num_items', 0):,}",
                f"{official.get('num_ties', 0):,}",
                percent(official.get("length_baseline")),
                percent(official.get("shorter_baseline")),
            )
        )
    return rows


def _loss_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, blocks in report["benchmarks"].items():
        block = blocks.get("worldpm", {})
        calibration = report["details"][name].get("calibration", {})
        rows.append(
            (
                name,
                number(block.get("bt_loss")),
                number(block.get("bt_loss_standard_error")),
                number(block.get("bt_loss_best_temperature")),
                number(block.get("temperature")),
                number(calibration.get("raw", {}).get("ece")),
                number(calibration.get("at_best_temperature", {}).get("ece")),
            )
        )
    return rows


def _style_rows(report: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, details in report["details"].items():
        style = details.get("style_control")
        if not style:
            continue
        fits = style["fits"]
        rows.append(
            (
                name,
                percent(report["benchmarks"][name]["worldpm"]["accuracy"]),
                _accuracy(fits["all"]["in_sample"]),
                _accuracy(fits["all"]["cross_fitted"]),
                _accuracy(fits["length"]["cross_fitted"]),
                _accuracy(fits["markdown"]["cross_fitted"]),
                _accuracy(style["accuracy_chosen_longer"]),
                _accuracy(style["accuracy_chosen_shorter"]),
            )
        )
    return rows


def _accuracy(block: Mapping[str, Any] | None) -> str:
    return percent(block["accuracy"]) if block else "–"


def _figures(report: Mapping[str, Any], output_dir: Path) -> list[Block]:
    # matplotlib takes a second to import: only a report needs it.
    from eval.plots import accuracy_figure, reliability_figure, save_figure, style_figure

    drawn = {
        "accuracy": (
            accuracy_figure({"this model": report}, "official"),
            "Official accuracy with its 95 % interval; the grey mark is the longer response.",
        ),
        "reliability": (
            reliability_figure(report),
            "Reliability: how often the higher score is right, by its predicted probability.",
        ),
        "style": (
            style_figure(report),
            "Reliance on style: φ of the model's choices against the labels' own.",
        ),
    }
    folder = output_dir / FIGURES_DIRECTORY
    return [
        Figure(save_figure(figure, folder, name), f"{FIGURES_DIRECTORY}/{name}.svg", caption)
        for name, (figure, caption) in drawn.items()
    ]


def _probes(report: Mapping[str, Any]) -> list[Block]:
    probes = {name: probe for name, probe in report.get("probes", {}).items() if probe}
    if not probes:
        return []
    columns = (
        "source",
        "items",
        "duplicate Δ",
        "order Δ",
        "accuracy",
        "prompts shuffled",
        "passed",
    )
    rows = tuple(
        (
            name,
            f"{probe['num_items']}",
            f"{probe['duplicate_response_max_difference']:.1e}",
            f"{probe['order_max_difference']:.1e}",
            percent(probe["accuracy"]),
            percent(probe["shuffled_prompt_accuracy"]),
            "yes" if probe["passed"] else "NO",
        )
        for name, probe in probes.items()
    )
    return [
        Heading("Probes of the scorer"),
        Paragraph(
            "A response that stands in its group twice must score the same (duplicate Δ), in any "
            "order (order Δ); under another item's prompt a preference should be lost."
        ),
        Table(columns, rows),
    ]


def _published(report: Mapping[str, Any], published: Sequence[PublishedNumber]) -> list[Block]:
    here = [one for one in published if one.benchmark in report["benchmarks"]]
    if not here:
        return []
    rows = tuple(
        (
            one.benchmark,
            one.model,
            f"{one.accuracy:.2f}",
            percent(report["benchmarks"][one.benchmark].get(one.protocol, {}).get("accuracy")),
            one.protocol,
            one.source,
        )
        for one in here
    )
    columns = ("benchmark", "published model", "published", "this model", "rule", "source")
    return [Heading("Published numbers"), Table(columns, rows)]


def _missing(report: Mapping[str, Any]) -> list[Block]:
    if not report["missing"]:
        return []
    rows = tuple((one["name"], one["reason"]) for one in report["missing"])
    return [Heading("Not evaluated"), Table(("benchmark", "reason"), rows)]
