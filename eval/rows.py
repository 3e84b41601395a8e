"""Rows of benchmark files, each with the place it stands, so that a broken one can be named.

Four layouts occur: JSON lines, one JSON array, one JSON object of arrays, and Parquet. Every
reader yields `Row`, whose accessors refuse a missing key or a wrong type: file, line, reason.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from worldpm.errors import InputError
from worldpm.schema import Message, parse_messages

Value = TypeVar("Value")

MAX_LINE_CHARACTERS = 64 * 1024 * 1024
# The largest published array is 3 MB; this only keeps a wrong path from filling the memory.
MAX_ARRAY_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a benchmark file and where it stands (`file:line`)."""

    values: Mapping[str, Any]
    where: str

    def refuse(self, reason: str) -> InputError:
        """The error to raise for this row."""
        return InputError(f"{self.where}: {reason}")

    def get(self, key: str) -> Any:
        """The value of a key that must be there."""
        if key not in self.values:
            known = ", ".join(self.values)
            raise self.refuse(f"the key {key!r} is missing (found: {known})")
        return self.values[key]

    def text(self, key: str) -> str:
        """A text."""
        value = self.get(key)
        if not isinstance(value, str):
            raise self.refuse(f"{key} must be a text, found {type(value).__name__}")
        return value

    def identifier(self, key: str) -> str:
        """A text or whole number that names the row."""
        value = self.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise self.refuse(f"{key} must be a text or a whole number, found {value!r}")
        return str(value)

    def texts(self, key: str, length: int | None = None) -> tuple[str, ...]:
        """A list of texts, of the given length where one is given."""
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.refuse(f"{key} must be a list of texts")
        if length is not None and len(value) != length:
            raise self.refuse(f"{key} must hold {length} texts, found {len(value)}")
        return tuple(value)

    def choice(self, key: str, allowed: Sequence[Value]) -> Value:
        """A value that is one of those allowed; a boolean is no number."""
        value = self.get(key)
        if isinstance(value, bool) or value not in allowed:
            options = ", ".join(repr(option) for option in allowed)
            raise self.refuse(f"{key} is {value!r}, out of range: must be one of {options}")
        return value

    def part(self, key: str) -> Row:
        """A nested object as a row at the same place."""
        return as_row(self.get(key), f"{self.where} {key}")

    def messages(self, key: str) -> tuple[Message, ...]:
        """A list of `{role, content}`; other keys of a message (`language`) are left out."""
        value = self.get(key)
        if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
            raise self.refuse(f"{key} must be a list of messages")
        if not value:
            raise self.refuse(f"{key} holds no message")
        return parse_messages(value, where=self.where)


def as_row(value: Any, where: str) -> Row:
    """Check that a parsed value is an object."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, found {type(value).__name__}")
    return Row(value, where)


def read_lines(path: Path) -> Iterator[Row]:
    """Rows of a file of JSON lines, plain or `.gz`; blank lines are skipped."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            number = 0
            while line := file.readline(MAX_LINE_CHARACTERS + 1):
                number += 1
                where = f"{path}:{number}"
                if len(line) > MAX_LINE_CHARACTERS:
                    raise InputError(f"{where}: longer than {MAX_LINE_CHARACTERS:,} characters")
                if line.strip():
                    yield as_row(_parse(line, where), where)
    except FileNotFoundError as exc:
        raise InputError(f"there is no file {path}") from exc
    except (gzip.BadGzipFile, EOFError) as exc:
        raise InputError(f"{path}: no whole gzip file ({exc})") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: not UTF-8 ({exc})") from exc


def read_array(path: Path) -> Iterator[Row]:
    """Rows of a file that is one JSON array of objects."""
    text = _read_text(path)
    for value, line in _array_elements(path, text, _skip_space(text, 0))[0]:
        yield as_row(value, f"{path}:{line}")


def read_arrays(path: Path) -> Iterator[tuple[str, Row]]:
    """(key, row) of a file that is one JSON object whose values are arrays of objects."""
    text = _read_text(path)
    decoder = json.JSONDecoder()
    position = _expect(path, text, _skip_space(text, 0), "{")
    while True:
        position = _skip_space(text, position)
        try:
            key, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as exc:
            raise InputError(f"{path}:{exc.lineno}: no valid JSON ({exc.msg})") from exc
        position = _expect(path, text, _skip_space(text, position), ":")
        elements, position = _array_elements(path, text, _skip_space(text, position))
        for value, line in elements:
            yield key, as_row(value, f"{path}:{line}")
        position = _skip_space(text, position)
        if text[position : position + 1] != ",":
            _expect(path, text, position, "}")
            return
        position += 1


def read_parquet(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file; the place is the row's number, from 1."""
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=256):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, f"{path}:{number}")
    except FileNotFoundError as exc:
        raise InputError(f"there is no file {path}") from exc
    except pa.ArrowInvalid as exc:
        raise InputError(f"{path}: no whole Parquet file ({exc})") from exc


def read_folder(folder: Path) -> Iterator[Row]:
    """Rows of every data file below a folder, as `hf download` leaves a data set.

    `.jsonl`, `.jsonl.gz`, `.json` (an array) and `.parquet` files, in the order of their paths.
    """
    readers = {
        ".jsonl": read_lines,
        ".jsonl.gz": read_lines,
        ".json": read_array,
        ".parquet": read_parquet,
    }
    found = [
        (path, read)
        for path in sorted(folder.rglob("*"))
        for suffix, read in readers.items()
        if path.name.endswith(suffix) and not path.name.startswith(".")
    ]
    if not found:
        raise InputError(f"{folder} holds no .jsonl, .jsonl.gz, .json or .parquet file")
    for path, read in found:
        yield from read(path)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_ARRAY_BYTES:
            raise InputError(f"{path} is larger than {MAX_ARRAY_BYTES:,} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise InputError(f"there is no file {path}") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: not UTF-8 ({exc})") from exc


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        raise InputError(f"{where}: no valid JSON ({exc.msg}, column {exc.colno})") from exc


def _array_elements(path: Path, text: str, start: int) -> tuple[list[tuple[Any, int]], int]:
    """The values of an array with the line each begins at, and the position after the array."""
    decoder = json.JSONDecoder()
    position = _skip_space(text, _expect(path, text, start, "["))
    line, counted = 1 + text.count("\n", 0, position), position
    elements: list[tuple[Any, int]] = []
    if text[position : position + 1] == "]":
        return elements, position + 1
    while True:
        position = _skip_space(text, position)
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as exc:
            raise InputError(f"{path}:{exc.lineno}: no valid JSON ({exc.msg})") from exc
        elements.append((value, line))
        position = _skip_space(text, position)
        if text[position : position + 1] != ",":
            return elements, _expect(path, text, position, "]")
        position += 1


def _expect(path: Path, text: str, position: int, character: str) -> int:
    if text[position : position + 1] == character:
        return position + 1
    line = 1 + text.count("\n", 0, position)
    found = repr(text[position]) if position < len(text) else "the end of the file"
    raise InputError(f"{path}:{line}: no valid JSON (expected {character!r}, found {found})")


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n\ufeff":
        position += 1
    return position
