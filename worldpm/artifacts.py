"""Files and directories that appear whole or not at all, with a manifest of what made them.

A writer fills a hidden neighbour and renames it at the end, so a kill leaves either the old output,
the new one, or a hidden directory that the next run continues or removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from worldpm.errors import ArtifactError

MANIFEST_NAME = "manifest.json"


@dataclass(slots=True)
class StageCounts:
    """How many rows went in, came out, and were dropped for which reason."""

    rows_in: int = 0
    rows_out: int = 0
    dropped: dict[str, int] = field(default_factory=dict[str, int])

    def drop(self, reason: str, amount: int = 1) -> None:
        """Count `amount` rows as dropped for `reason`; nothing is written for an amount of 0."""
        if amount:
            self.dropped[reason] = self.dropped.get(reason, 0) + amount

    def add(self, other: StageCounts) -> None:
        """Add the counts of another part of the same stage."""
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        for reason, amount in other.dropped.items():
            self.drop(reason, amount)

    def check(self, stage: str) -> None:
        """Raise AssertionError if a row is neither out nor counted as dropped."""
        total = self.rows_out + sum(self.dropped.values())
        assert self.rows_in == total, f"{stage}: {self.rows_in} rows in, {total} accounted for"


def fingerprint(*parts: Any) -> str:
    """SHA-256 (hex) of values that JSON can hold, independent of the order of mapping keys."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_sha256(*modules: Any) -> str:
    """SHA-256 over the source files of modules: the code version of what they compute."""
    return fingerprint([file_sha256(Path(module.__file__)) for module in modules])


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Generator[IO[Any]]:
    """Open a hidden neighbour of `path` for writing; it takes the name when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with hidden.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Like `atomic_file`, for libraries that want a path to write to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{os.getpid()}.tmp.{path.name}")
    try:
        write(hidden)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON (indented, keys in the given order), atomically."""
    with atomic_file(path) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ArtifactError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ArtifactError(f"{path} does not exist: that output is not complete") from exc
    except (json.JSONDecodeError, UnicodeDecodeError) as exc:
        raise ArtifactError(f"{path} is no valid JSON ({exc}): rebuild the output") from exc


@dataclass(frozen=True, slots=True)
class Manifest:
    """What made a directory: written last, so its presence means the directory is whole.

    `fingerprint` covers config, inputs and code; `files` maps a relative path to size and SHA-256.
    """

    kind: str
    fingerprint: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Any]
    counts: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def write(self, directory: Path) -> None:
        """Write `manifest.json` into `directory`, atomically."""
        write_json(directory / MANIFEST_NAME, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read a directory's manifest.

        Raises:
            ArtifactError: there is none, or it has other fields.
        """
        value = read_json(directory / MANIFEST_NAME)
        try:
            return cls(**value)
        except TypeError as exc:
            raise ArtifactError(f"{directory / MANIFEST_NAME}: {exc}; rebuild the output") from exc


def describe_files(directory: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file below `directory` but its manifest, in the order of names."""
    return {
        path.relative_to(directory).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }


def is_current(directory: Path, expected_fingerprint: str) -> bool:
    """Whether `directory` is whole and was made by exactly this config, input and code."""
    if not (directory / MANIFEST_NAME).exists():
        return False
    return Manifest.read(directory).fingerprint == expected_fingerprint


def publish_directory(hidden: Path, final: Path) -> None:
    """Give a finished hidden directory its name, replacing what stood there."""
    replaced = final.with_name(f".{final.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.rename(replaced)
    hidden.rename(final)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_directory(directory: Path) -> None:
    """Remove a directory whole: killed on the way, a hidden remainder stays, never half of it."""
    hidden = directory.with_name(f".{directory.name}.removed")
    shutil.rmtree(hidden, ignore_errors=True)
    directory.rename(hidden)
    shutil.rmtree(hidden)


@contextmanager
def atomic_directory(final: Path) -> Generator[Path]:
    """Give an empty hidden directory that takes the name `final` when the block succeeds."""
    hidden = final.with_name(f".{final.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    try:
        yield hidden
        publish_directory(hidden, final)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
