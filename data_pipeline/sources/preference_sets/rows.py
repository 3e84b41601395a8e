"""Rows of published preference files, with the place of each for messages."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import pyarrow.parquet as pq

from worldpm.errors import InputError

MAX_LINE_BYTES = 64 * 1024 * 1024
SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Row:
    """One row and where it stands."""

    value: Mapping[str, Any]
    where: str

    def refuse(self, problem: str) -> NoReturn:
        """Raise InputError for this row."""
        raise InputError(f"{self.where}: {problem}")

    def text(self, key: str) -> str:
        """A text that must be there."""
        value = self.value.get(key)
        if not isinstance(value, str):
            self.refuse(f"{key} must be a text, found {_kind(value)}")
        return value

    def number(self, key: str) -> float:
        """A number that must be there; texts of numbers count."""
        value = self.value.get(key)
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError
            return float(value)
        except ValueError:
            self.refuse(f"{key} must be a number, found {value!r}")

    def parts(self, key: str) -> list[Row]:
        """A list of objects that must be there."""
        value = self.value.get(key)
        if not isinstance(value, list) or not all(isinstance(part, Mapping) for part in value):
            self.refuse(f"{key} must be a list of objects, found {_kind(value)}")
        return [Row(part, f"{self.where}, {key}[{index}]") for index, part in enumerate(value)]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, or of all files of a folder in the order of names.

    JSON lines or a JSON list, plain or gzip, or Parquet.

    Raises:
        InputError: naming file, line and reason.
    """
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.name.endswith(SUFFIXES)]
        if not files:
            raise InputError(f"{path} holds no file that ends in {', '.join(SUFFIXES)}")
        for file in files:
            yield from read_rows(file)
        return
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
    elif path.name.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_lines(path)
    elif path.name.endswith((".json", ".json.gz")):
        yield from _read_list(path)
    else:
        raise InputError(f"{path}: rows are read from files that end in {', '.join(SUFFIXES)}")


def _read_parquet(path: Path) -> Iterator[Row]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for value in batch.to_pylist():
                yield Row(value, f"{path}, row {number}")
                number += 1


def _read_lines(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        number = 0
        while line := _read(file, path):
            number += 1
            if line.strip():
                where = f"{path}:{number}"
                yield _row(_parse(line, where), where)


def _read_list(path: Path) -> Iterator[Row]:
    with _open(path) as file:
        values = _parse(_read(file, path, whole=True), str(path))
    if not isinstance(values, list):
        raise InputError(f"{path}: expected a list of objects, found {_kind(values)}")
    for number, value in enumerate(values):
        yield _row(value, f"{path}, entry {number}")


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _read(file: IO[bytes], path: Path, *, whole: bool = False) -> bytes:
    limit = 16 * MAX_LINE_BYTES if whole else MAX_LINE_BYTES
    try:
        data = file.read(limit + 1) if whole else file.readline(limit + 1)
    except (gzip.BadGzipFile, EOFError) as exc:
        raise InputError(f"{path} is no whole gzip file: {exc}") from exc
    if len(data) > limit:
        raise InputError(f"{path}: more than {limit:,} bytes in one piece of JSON")
    return data


def _parse(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise InputError(f"{where}: no valid JSON ({exc})") from exc


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected an object, found {_kind(value)}")
    return Row(value, where)


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
