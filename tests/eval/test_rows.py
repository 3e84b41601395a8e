"""A broken benchmark file is refused with its name, the line and the reason."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.rows import Row, read_array, read_arrays, read_folder, read_lines, read_parquet
from worldpm.errors import InputError


def test_lines_are_numbered_from_one_and_blank_ones_skipped(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": 2}\n')
    assert [(row.values["a"], row.where) for row in read_lines(path)] == [
        (1, f"{path}:1"),
        (2, f"{path}:3"),
    ]


def test_a_gzip_file_reads_like_a_plain_one(tmp_path: Path):
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"text": "é\\n"}\n')
    assert [row.text("text") for row in read_lines(path)] == ["é\n"]


def test_array_rows_know_the_line_they_begin_on(tmp_path: Path):
    path = tmp_path / "rows.json"
    path.write_text('[\n  {\n    "a": 1\n  },\n  {"a": 2}, {"a": 3}\n]\n')
    assert [row.where for row in read_array(path)] == [f"{path}:2", f"{path}:5", f"{path}:5"]


def test_an_object_of_arrays_gives_every_row_with_its_key(tmp_path: Path):
    path = tmp_path / "rows.json"
    path.write_text('{"one": [{"a": 1}],\n "two": [], "three": [{"a": 2},\n{"a": 3}]}')
    found = [(key, row.values["a"], row.where) for key, row in read_arrays(path)]
    assert found == [
        ("one", 1, f"{path}:1"),
        ("three", 2, f"{path}:2"),
        ("three", 3, f"{path}:3"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("cut.jsonl", '{"a": 1}\n{"a": ', 2),
        ("cut.json", '[{"a": 1},\n{"a": 2},\n{"a"', 3),
        ("open.json", '[{"a": 1},\n{"a": 2}\n', 3),
        ("scalar.json", "[\n17]", 2),
        ("list.jsonl", "[1, 2]\n", 1),
    ],
)
def test_truncated_json_is_refused_with_file_and_line(
    tmp_path: Path, name: str, content: str, line: int
):
    path = tmp_path / name
    path.write_text(content)
    read = read_array if name.endswith(".json") else read_lines
    with pytest.raises(InputError) as caught:
        list(read(path))
    assert str(caught.value).startswith(f"{path}:{line}: ")


def test_a_cut_gzip_file_is_refused(tmp_path: Path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 100)[:-12])
    with pytest.raises(InputError, match="no whole gzip file"):
        list(read_lines(path))


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="no whole Parquet file"):
        list(read_parquet(path))


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path: Path):
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "data" / "train-0.parquet")
    (tmp_path / "more.jsonl").write_text('{"a": 3}\n')
    (tmp_path / "README.md").write_text("# not data")
    assert [row.values["a"] for row in read_folder(tmp_path)] == [1, 2, 3]


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="holds no"):
        list(read_folder(tmp_path))


@pytest.mark.parametrize(
    ("values", "call", "reason"),
    [
        ({"b": 1}, lambda row: row.get("a"), "the key 'a' is missing"),
        ({"a": 1}, lambda row: row.text("a"), "must be a text, found int"),
        ({"label": 3}, lambda row: row.choice("label", (1, 2)), "3, out of range"),
        ({"label": True}, lambda row: row.choice("label", (1, 2)), "True, out of range"),
        ({"id": 1.5}, lambda row: row.identifier("id"), "text or a whole number"),
        ({"a": ["x", 1]}, lambda row: row.texts("a"), "list of texts"),
        ({"a": ["x"]}, lambda row: row.texts("a", 3), "must hold 3 texts, found 1"),
        ({"a": []}, lambda row: row.messages("a"), "holds no message"),
        ({"a": [{"role": "tool", "content": ""}]}, lambda row: row.messages("a"), "role"),
    ],
)
def test_a_wrong_value_is_refused_at_its_place(values, call, reason):
    with pytest.raises(InputError, match=reason) as caught:
        call(Row(values, "file.jsonl:7"))
    assert str(caught.value).startswith("file.jsonl:7: ")


def test_messages_keep_role_and_content_and_drop_the_rest():
    row = Row({"turns": [{"role": "user", "content": "hi", "language": "English"}]}, "f:1")
    [turn] = row.messages("turns")
    assert json.dumps([turn.role, turn.content]) == '["user", "hi"]'
