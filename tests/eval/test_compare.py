"""Differences between models: on the same items, with the right test, and written for people."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.compare import compare_evaluations
from eval.compare_report import write_comparison
from eval.document import Document, Heading, Paragraph, Table
from eval.published import PublishedNumber, read_published
from eval.results import OUTCOMES_SCHEMA
from eval.statistics import mcnemar_p_value
from worldpm.artifacts import write_json
from worldpm.errors import InputError


def _evaluation(folder: Path, credits: dict[str, list[float]], **weights: list[float]) -> Path:
    rows: list[dict[str, Any]] = []
    benchmarks: dict[str, Any] = {}
    for name, values in credits.items():
        weight = weights.get(name, [1 / len(values)] * len(values))
        rows += [
            {
                "benchmark": name,
                "protocol": "official",
                "item_id": str(index),
                "subset": "all",
                "credit": float(value),
                "size": 1.0,
                "weight": share,
            }
            for index, (value, share) in enumerate(zip(values, weight, strict=True))
        ]
        accuracy = sum(v * w for v, w in zip(values, weight, strict=True))
        block = {"accuracy": accuracy, "standard_error": 0.1, "interval": [0, 1], "bt_loss": 0.5}
        benchmarks[name] = {"official": block}
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=OUTCOMES_SCHEMA), folder / "outcomes.parquet")
    write_json(folder / "results.json", {"benchmarks": benchmarks})
    return folder


def test_right_or_wrong_items_are_compared_by_mcnemar(tmp_path: Path):
    first = _evaluation(tmp_path / "a", {"judgebench": [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]})
    second = _evaluation(tmp_path / "b", {"judgebench": [1, 0, 1, 1, 1, 1, 1, 1, 1, 1]})
    [one] = compare_evaluations([first, second], protocol="official").differences
    assert one.test == "McNemar"
    assert one.p_value == pytest.approx(mcnemar_p_value(1, 7))
    assert one.difference == pytest.approx(0.6)


def test_weighted_or_shared_credit_is_compared_by_the_paired_bootstrap(tmp_path: Path):
    values = [0.25, 0.5, 1.0, 0.0] * 25
    first = _evaluation(tmp_path / "a", {"rewardbench2": values})
    second = _evaluation(tmp_path / "b", {"rewardbench2": [min(1.0, v + 0.25) for v in values]})
    [one] = compare_evaluations([first, second], protocol="official").differences
    assert one.test == "paired bootstrap"
    assert one.difference == pytest.approx(0.1875)
    assert one.stands
    low, high = one.interval
    assert low < one.difference < high


def test_pairing_finds_what_overlapping_intervals_hide(tmp_path: Path):
    # 60 % against 64 %, but never worse on any item.
    base = [1] * 120 + [0] * 80
    first = _evaluation(tmp_path / "a", {"llmbar": base})
    second = _evaluation(tmp_path / "b", {"llmbar": [*base[:120], *[1] * 8, *base[128:]]})
    [one] = compare_evaluations([first, second], protocol="official").differences
    assert one.p_value == pytest.approx(2 / 2**8)
    assert one.stands


def test_holm_runs_over_the_benchmarks(tmp_path: Path):
    base, better = [0] * 6 + [1] * 6, [1] * 12
    names = {f"set-{index}": base for index in range(4)}
    first = _evaluation(tmp_path / "a", names)
    second = _evaluation(tmp_path / "b", {**names, "set-0": better})
    found = compare_evaluations([first, second], protocol="official").differences
    assert found[0].p_value == pytest.approx(2 / 2**6)
    assert found[0].adjusted_p_value == pytest.approx(4 * 2 / 2**6)
    assert not found[0].stands
    assert all(one.p_value == 1 for one in found[1:])


def test_other_items_are_not_compared_and_named(tmp_path: Path):
    first = _evaluation(tmp_path / "a", {"x": [1, 0, 1], "y": [1, 0], "z": [1, 1]})
    second = _evaluation(tmp_path / "b", {"x": [1, 0], "y": [1, 1]})
    comparison = compare_evaluations([first, second], protocol="official")
    assert [one.benchmark for one in comparison.differences] == ["y"]
    assert dict(comparison.skipped) == {
        "x (b)": "the two were evaluated on different items",
        "z (b)": "b has no result",
    }


def test_swapping_the_models_turns_the_sign(tmp_path: Path):
    first = _evaluation(tmp_path / "a", {"x": [1, 0, 0, 1]})
    second = _evaluation(tmp_path / "b", {"x": [1, 1, 0, 1]})
    [forth] = compare_evaluations([first, second], protocol="official").differences
    [back] = compare_evaluations([second, first], protocol="official").differences
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.p_value == back.p_value


def test_a_comparison_is_written_as_markdown_csv_html_and_figure(tmp_path: Path):
    first = _evaluation(tmp_path / "a", {"judgebench": [1, 0, 0, 1]})
    second = _evaluation(tmp_path / "b", {"judgebench": [1, 1, 0, 1]})
    published = [PublishedNumber("Some <model>", "judgebench", 64.3, "official", "a paper")]
    write_comparison(
        compare_evaluations([first, second], protocol="official"), tmp_path / "c", published
    )
    with (tmp_path / "c" / "compare.csv").open(encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert (row["benchmark"], float(row["difference"])) == ("judgebench", pytest.approx(0.25))
    markdown = (tmp_path / "c" / "compare.md").read_text(encoding="utf-8")
    assert "| judgebench | a | b |" in markdown
    assert "64.30" in markdown
    html = (tmp_path / "c" / "compare.html").read_text(encoding="utf-8")
    assert "<svg" in html
    assert "Some &lt;model&gt;" in html
    # Nothing is loaded from elsewhere: the namespaces of SVG are names only.
    assert not any(loader in html for loader in ("<script", "<link", "src=", "url(http"))
    assert (tmp_path / "c" / "figures" / "compare.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("names", "protocol", "reason"),
    [
        (["a"], "official", "two evaluations"),
        (["a", "nothing"], "official", "holds no results.json"),
        (["a", "b"], "oficial", "must be one of official, worldpm"),
        (["a", "b"], "worldpm", "nothing can be compared"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, names, protocol, reason):
    for name in ("a", "b"):
        _evaluation(tmp_path / name, {"x": [1, 0]})
    with pytest.raises(InputError, match=reason):
        compare_evaluations([tmp_path / name for name in names], protocol=protocol)


def test_published_rows_are_read_and_checked(tmp_path: Path, project_root: Path):
    [*rows] = read_published(project_root / "configs/eval/published/skywork-reward-v2.json")
    assert len(rows) == 8 * 6
    write_json(
        tmp_path / "bad.json",
        {
            "source": "s",
            "rows": [{"model": "m", "benchmark": "b", "accuracy": 101, "protocol": "official"}],
        },
    )
    with pytest.raises(InputError, match="percentage"):
        read_published(tmp_path / "bad.json")


def test_a_document_escapes_text_in_both_forms():
    document = Document(
        "A & B", [Heading("<h>"), Paragraph("x < y"), Table(("a", "b"), (("1 | 2", "<td>"),))]
    )
    assert "| 1 \\| 2 | <td> |" in document.to_markdown()
    html = document.to_html()
    assert "<h1>A &amp; B</h1>" in html
    assert "<td>&lt;td&gt;</td>" in html
