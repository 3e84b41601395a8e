"""Exported files are what Hugging Face `datasets` and the trainers on top of it read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.export import ExportConfig, export_pairs
from worldpm.artifacts import Manifest
from worldpm.errors import ArtifactError, ConfigError, InputError
from worldpm.schema import GROUPS_SCHEMA


def group(site: str, question_id: int, split: str, pairs: list[tuple[int, int, int]]) -> Any:
    return {
        "group_id": f"{site}/{question_id}",
        "site": site,
        "question_id": question_id,
        "prompt": [{"role": "user", "content": f"Question {question_id} é 価 🙂"}],
        "responses": [
            {"response_id": place, "content": f"{question_id}: answer {place}", "score": 10 - place}
            for place in range(3)
        ],
        "pairs": [
            {"chosen": chosen, "rejected": rejected, "margin": margin, "weight": 1.0}
            for chosen, rejected, margin in pairs
        ],
        "split": split,
    }


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    build = tmp_path / "build"
    (build / "groups").mkdir(parents=True)
    buckets = [
        [group("a", 1, "train", [(0, 2, 2), (1, 2, 1)]), group("a", 2, "test", [])],
        [group("b", 7, "validation", [(2, 0, 5)]), group("a", 9, "train", [(0, 1, 1)])],
    ]
    for number, rows in enumerate(buckets):
        table = pa.Table.from_pylist(rows, schema=GROUPS_SCHEMA)
        pq.write_table(table, build / "groups" / f"bucket-{number:05d}.parquet")
    Manifest("data_build", "x", {}, {}, {}).write(build)
    return build


def load(path: Path, tmp_path: Path) -> datasets.Dataset:
    kind = {".parquet": "parquet", ".jsonl": "json"}[path.suffix]
    return datasets.load_dataset(  # type: ignore[return-value]
        kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_datasets_reads_one_row_a_pair(build_dir: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"pairs{suffix}"
    assert export_pairs(ExportConfig(input=build_dir, output=output)) == 4
    rows = load(output, tmp_path)
    assert rows.column_names == ["prompt", "chosen", "rejected", "margin", "site", "question_id"]
    assert rows[1] == {
        "prompt": [{"role": "user", "content": "Question 1 é 価 🙂"}],
        "chosen": [{"role": "assistant", "content": "1: answer 1"}],
        "rejected": [{"role": "assistant", "content": "1: answer 2"}],
        "margin": 1,
        "site": "a",
        "question_id": 1,
    }
    assert rows[2]["chosen"][0]["content"] == "7: answer 2"
    assert rows[3]["rejected"][0]["content"] == "9: answer 1"


def test_parquet_holds_lists_of_role_and_content(build_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.parquet"
    export_pairs(ExportConfig(input=build_dir, output=output))
    message = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    schema = pq.read_schema(output)
    assert [schema.field(name).type for name in ("prompt", "chosen", "rejected")] == [message] * 3


def test_splits_sites_and_margins_filter(build_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.jsonl"

    def questions(**settings: Any) -> list[int]:
        export_pairs(ExportConfig(input=build_dir, output=output, **settings))
        return [json.loads(line)["question_id"] for line in output.read_text().splitlines()]

    assert questions(splits=("train",)) == [1, 1, 9]
    assert questions(sites=("b",)) == [7]
    assert questions(min_margin=2) == [1, 7]
    assert questions(splits=("test",)) == []


def test_the_message_layout_has_bare_messages_and_asked_columns(
    build_dir: Path, tmp_path: Path
) -> None:
    output = tmp_path / "pairs.parquet"
    export_pairs(
        ExportConfig(
            input=build_dir,
            output=output,
            layout="message",
            columns=("split", "chosen_score", "rejected_score", "weight", "group_id"),
        )
    )
    assert pq.read_table(output).to_pylist()[0] == {
        "prompt": [{"role": "user", "content": "Question 1 é 価 🙂"}],
        "chosen": {"role": "assistant", "content": "1: answer 0"},
        "rejected": {"role": "assistant", "content": "1: answer 2"},
        "split": "train",
        "chosen_score": 10,
        "rejected_score": 8,
        "weight": 1.0,
        "group_id": "a/1",
    }


def test_wrong_names_and_unfinished_builds_are_refused(build_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.parquet or \.jsonl"):
        export_pairs(ExportConfig(input=build_dir, output=tmp_path / "pairs.csv"))
    with pytest.raises(InputError, match="worldpm data build"):
        export_pairs(ExportConfig(input=tmp_path / "nothing", output=tmp_path / "pairs.jsonl"))
    (build_dir / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match="not complete"):
        export_pairs(ExportConfig(input=build_dir, output=tmp_path / "pairs.jsonl"))
    assert not (tmp_path / "pairs.jsonl").exists()
