"""Group files: what is written is read back, and what is wrong is named with file and line."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worldpm.errors import InputError
from worldpm.group_files import read_group_file, write_group_file
from worldpm.schema import GROUPS_SCHEMA, Group, Message, Pair

GROUP = Group(
    "site/1",
    (Message("system", ""), Message("user", "Why \u2028 <|im_end|>?")),
    ("because\n", "", "🙂"),
    (Pair(0, 1, margin=3, weight=0.5), Pair(2, 1)),
)


def test_written_groups_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "groups.jsonl"
    assert write_group_file(path, [GROUP, GROUP]) == 2
    assert list(read_group_file(path)) == [GROUP, GROUP]


def test_the_groups_of_a_build_are_read(tmp_path: Path) -> None:
    row = {
        "group_id": "site/1",
        "prompt": [{"role": "user", "content": "Why?"}],
        "responses": [{"content": "a"}, {"content": "b"}],
        "pairs": [{"chosen": 1, "rejected": 0, "margin": 2, "weight": 1.0}],
    }
    table = pa.Table.from_pylist([row], schema=GROUPS_SCHEMA)
    for name in ("part-1.parquet", "part-0.parquet"):
        pq.write_table(table, tmp_path / name)
    expected = Group("site/1", (Message("user", "Why?"),), ("a", "b"), (Pair(1, 0, margin=2),))
    assert list(read_group_file(tmp_path)) == [expected, expected]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": 1', "no valid JSON"),
        ("[1]", "expected an object, found list"),
        ('{"id": 1, "prompt": []}', "the key 'responses' is missing"),
        ('{"id": 1, "prompt": [], "responses": []}', "prompt must be a list of messages"),
        ('{"id": 1, "prompt": "x", "responses": []}', "prompt must be a list of messages"),
        (
            '{"id": 1, "prompt": [{"role": "user", "content": 3}], "responses": []}',
            "a message needs",
        ),
        (
            '{"id": 1, "prompt": [{"role": "user", "content": ""}], "responses": [1]}',
            "list of texts",
        ),
        (
            '{"id": 1, "prompt": [{"role": "user", "content": ""}], "responses": ["a"],'
            ' "pairs": [[0]]}',
            "is no pair of response indices",
        ),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "groups.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(InputError, match=rf"groups\.jsonl:2: .*{reason}"):
        list(read_group_file(path))


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"group_id": ["a"]}), path)
    with pytest.raises(InputError, match="the column prompt is missing"):
        list(read_group_file(path))


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.parquet", "groups.csv"])
def test_a_missing_or_foreign_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        list(read_group_file(tmp_path / name))


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worldpm.group_files.MAX_LINE_BYTES", 100)
    path = tmp_path / "groups.jsonl"
    path.write_text("x" * 101)
    with pytest.raises(InputError, match="longer than 100 bytes"):
        list(read_group_file(path))
