"""`worldpm data import` writes groups that can be read back, and counts every item it left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.config import DecontaminationConfig
from data_pipeline.import_groups import ImportConfig, import_groups
from data_pipeline.sources.preference_sets import ImportSource
from worldpm.artifacts import read_json
from worldpm.errors import ConfigError, InputError
from worldpm.group_files import read_group_file, write_group_file
from worldpm.schema import Group, Message


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def write_rows(path: Path, *pairs: tuple[str, str, str]) -> ImportSource:
    rows = [
        {"chosen": conversation(question, chosen), "rejected": conversation(question, rejected)}
        for question, chosen, rejected in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ImportSource(path=path, format="conversations", name="set")


def config(tmp_path: Path, source: ImportSource, **settings: Any) -> ImportConfig:
    return ImportConfig(source=source, output=tmp_path / "groups.jsonl", **settings)


def test_groups_are_written_and_drops_counted(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.jsonl", ("q", "good", "bad"), ("r", "same", "same"))
    counts = import_groups(config(tmp_path, source)).counts
    assert (counts.rows_in, counts.rows_out, counts.dropped) == (2, 1, {"same_text": 1})
    assert [g.responses for g in read_group_file(tmp_path / "groups.jsonl")] == [("good", "bad")]
    report = read_json(tmp_path / "groups.counts.json")
    assert report["counts"]["dropped"] == {"same_text": 1}
    assert report["agreement"] is None


def test_what_overlaps_with_a_benchmark_is_left_out(tmp_path: Path) -> None:
    span = " ".join(f"word{number}" for number in range(13))
    benchmark = tmp_path / "bench.jsonl"
    write_group_file(benchmark, [Group("1", (Message("user", f"Well, {span}?"),), ("a", "b"))])
    source = write_rows(
        tmp_path / "a.jsonl",
        (f"Please: {span}", "good", "bad"),
        ("q", f"{span} and more", "bad"),
        (span.removesuffix(" word12"), "good", "bad"),
    )
    decontamination = DecontaminationConfig(benchmarks={"bench": benchmark})
    counts = import_groups(config(tmp_path, source, decontamination=decontamination)).counts
    assert (counts.rows_out, counts.dropped) == (1, {"overlaps_bench": 2})


def test_nothing_is_written_where_nothing_makes_a_group(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "a.jsonl", ("r", "same", "same"))
    with pytest.raises(InputError, match="same_text 1"):
        import_groups(config(tmp_path, source))
    with pytest.raises(ConfigError, match=r"must end in \.jsonl"):
        import_groups(ImportConfig(source=source, output=tmp_path / "groups.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
