"""Files of response groups: JSON lines and Parquet, read and written one group at a time.

A line is `{"id", "prompt": [{"role", "content"}…], "responses": [text…], "pairs": [[chosen,
rejected]…]}`; `pairs` may be left out where there is nothing to prefer, and an entry may also be
`{"chosen", "rejected", "margin", "weight"}`. Parquet files have the columns of `groups/*.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from worldpm.artifacts import atomic_file
from worldpm.errors import InputError
from worldpm.schema import Group, Pair, parse_messages

# Longer lines are refused: no conversation needs them, and a file without newlines would fill
# the memory.
MAX_LINE_BYTES = 64 * 1024 * 1024


def read_group_file(path: Path) -> Iterator[Group]:
    """Read a `.jsonl` or `.parquet` file, or every Parquet file of a folder in the order of names.

    Raises:
        InputError: naming file, line and reason.
    """
    if path.is_dir():
        parts = sorted(path.glob("*.parquet"))
        if not parts:
            raise InputError(f"{path} holds no Parquet file of groups")
        for part in parts:
            yield from read_group_file(part)
    elif path.suffix == ".parquet":
        yield from _read_parquet(path)
    elif path.suffix == ".jsonl":
        yield from _read_lines(path)
    else:
        raise InputError(f"{path}: groups are read from .jsonl and .parquet files")


def write_group_file(path: Path, groups: Iterable[Group]) -> int:
    """Write groups as JSON lines, atomically; returns how many."""
    count = 0
    with atomic_file(path) as file:
        for group in groups:
            file.write(json.dumps(_to_line(group), ensure_ascii=False) + "\n")
            count += 1
    return count


def parse_group(value: Any, *, where: str) -> Group:
    """Check one parsed line.

    Raises:
        InputError: its text begins with `where`.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, found {type(value).__name__}")
    missing = [key for key in ("id", "prompt", "responses") if key not in value]
    if missing:
        raise InputError(f"{where}: the key {missing[0]!r} is missing")
    responses = value["responses"]
    if not isinstance(responses, list) or not all(isinstance(text, str) for text in responses):
        raise InputError(f"{where}: responses must be a list of texts")
    if not isinstance(value["prompt"], list) or not value["prompt"]:
        raise InputError(f"{where}: prompt must be a list of messages, at least one")
    return Group(
        group_id=str(value["id"]),
        prompt=parse_messages(value["prompt"], where=where),
        responses=tuple(responses),
        pairs=tuple(_parse_pair(pair, where) for pair in value.get("pairs", [])),
    )


def _parse_pair(value: Any, where: str) -> Pair:
    try:
        if isinstance(value, Sequence):
            chosen, rejected = value
            return Pair(int(chosen), int(rejected))
        return Pair(**value)
    except (TypeError, ValueError) as exc:
        raise InputError(f"{where}: {value!r} is no pair of response indices") from exc


def _read_lines(path: Path) -> Iterator[Group]:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"{path}:{number}"
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{where}: the line is longer than {MAX_LINE_BYTES:,} bytes")
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (json.JSONDecodeError, UnicodeDecodeError) as exc:
                raise InputError(f"{where}: no valid JSON ({exc})") from exc
            yield parse_group(value, where=where)


def _read_parquet(path: Path) -> Iterator[Group]:
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    columns = ["group_id", "prompt", "responses", "pairs"]
    with pq.ParquetFile(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise InputError(f"{path}: the column {missing[0]} is missing: no file of groups")
        for batch in file.iter_batches(batch_size=256, columns=columns):
            yield from (Group.from_row(row) for row in batch.to_pylist())


def _to_line(group: Group) -> dict[str, Any]:
    return {
        "id": group.group_id,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in group.prompt],
        "responses": list(group.responses),
        "pairs": [
            {
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "margin": pair.margin,
                "weight": pair.weight,
            }
            for pair in group.pairs
        ],
    }
