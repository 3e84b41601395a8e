"""Reading what the cleaning stages wrote."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.removals import REMOVALS_SCHEMA, read_removals, removals_dir


def _write(stage: Path, *questions: int) -> None:
    folder = removals_dir(stage)
    folder.mkdir(parents=True)
    for question in questions:
        row = {"site": "a.b", "question_id": question, "response_id": None, "reason": "copy"}
        table = pa.Table.from_pylist([row], schema=REMOVALS_SCHEMA)
        pq.write_table(table, folder / f"{question}.parquet")


def test_all_files_of_all_stages_are_read_in_order(tmp_path: Path) -> None:
    _write(tmp_path / "late", 2, 1)
    _write(tmp_path / "early", 3)
    stages = [tmp_path / "late", tmp_path / "missing", tmp_path / "early"]
    assert read_removals(stages)["question_id"].to_pylist() == [1, 2, 3]


def test_a_stage_that_was_made_anew_is_read_anew(tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    _write(stage, 1)
    assert read_removals([stage])["question_id"].to_pylist() == [1]
    _write(tmp_path / "next", 5, 6)
    stage.rename(tmp_path / "old")
    (tmp_path / "next").rename(stage)
    assert read_removals([stage])["question_id"].to_pylist() == [5, 6]
