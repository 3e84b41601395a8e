"""The bytes of a dump's XML, streamed out of whatever holds them: nothing is unpacked to disk.

Plain files, `.gz`, `.zst` and members of `.7z` archives.
"""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import py7zr
import zstandard

from data_pipeline.sources.unpackers import (
    DECOMPRESSION_ERRORS,
    DamagedArchiveError,
    unpack_member,
)
from worldpm.errors import InputError
from worldpm.object_store import StoredFile

CHUNK_BYTES = 4 * 1024 * 1024
READ_BYTES = 1024 * 1024
SEVEN_ZIP_MAGIC = b"7z\xbc\xaf\x27\x1c"

# Before a decompressor notices damage it may put out nonsense: a block of BZip2 is 900 kB, and its
# checksum stands behind it.
UNSURE_BYTES = 1024 * 1024


class Readable(Protocol):
    """A binary file that can be read in pieces."""

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class ByteSource:
    """One XML file of a site: on its own, compressed, or as a member of an archive."""

    path: Path
    member: str | None = None

    @property
    def label(self) -> str:
        """The place, for messages."""
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def size(self) -> int:
        """Bytes of the file or archive."""
        return self.path.stat().st_size

    @contextmanager
    def at_hand(self, folder: Path) -> Iterator[ByteSource]:
        """The source as a local file: itself."""
        del folder
        yield self

    def chunks(self) -> Iterator[bytes]:
        """The uncompressed bytes in pieces of `CHUNK_BYTES`, whatever they come out of.

        Raises:
            DamagedArchiveError: after the last good piece, if the compressed data is broken.
        """
        if self.member is not None:
            unpacked = unpack_member(self.path, self.member, CHUNK_BYTES)
            return _without_unsure(_of_equal_size(unpacked))
        return _of_equal_size(_file_chunks(self.path))


@dataclass(frozen=True, slots=True)
class StoredSource:
    """The same in an object store: fetched when its turn comes, removed when it has been read."""

    file: StoredFile
    member: str | None = None

    @property
    def label(self) -> str:
        """The place, for messages."""
        return f"{self.file}/{self.member}" if self.member else str(self.file)

    @property
    def size(self) -> int:
        """Bytes of the file or archive."""
        return self.file.size

    @contextmanager
    def at_hand(self, folder: Path) -> Iterator[ByteSource]:
        """A local copy in `folder`, for as long as the context lasts."""
        copy = folder / self.file.name
        try:
            self.file.fetch(copy)
            yield ByteSource(copy, self.member)
        finally:
            copy.unlink(missing_ok=True)


def list_archive(path: Path | StoredFile) -> list[str]:
    """The names of an archive's files; of a stored one only the header is read.

    Raises:
        InputError: it is no 7z archive, is encrypted, or holds a path that leads out of it.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(SEVEN_ZIP_MAGIC))
        if magic != SEVEN_ZIP_MAGIC:
            if magic.startswith(b"versio"):
                raise InputError(
                    f"{path} is a Git LFS pointer, not the archive: run `git lfs pull`"
                )
            raise InputError(f"{path} is not a 7z archive: download it again, or remove it")
        with path.open("rb") as file, py7zr.SevenZipFile(file) as archive:
            if archive.needs_password():
                raise InputError(f"{path} is encrypted: unpack it with its password first")
            names = [entry.filename for entry in archive.list() if not entry.is_directory]
    except (*DECOMPRESSION_ERRORS, IndexError, KeyError, TypeError) as exc:
        raise InputError(f"{path} is a damaged 7z archive ({exc}): download it again") from exc
    for name in names:
        _refuse_escape(path, name)
    return names


def _refuse_escape(path: Path | StoredFile, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise InputError(f"{path} holds {name!r}, a path that leads out of the archive: refused")


def _of_equal_size(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut anew, so that parts and notes downstream do not depend on who decompresses."""
    rest = bytearray()
    try:
        for chunk in chunks:
            if not rest and len(chunk) == CHUNK_BYTES:
                yield chunk
                continue
            rest += chunk
            while len(rest) >= CHUNK_BYTES:
                yield bytes(rest[:CHUNK_BYTES])
                del rest[:CHUNK_BYTES]
    except DamagedArchiveError:
        yield bytes(rest)
        raise
    if rest:
        yield bytes(rest)


def _without_unsure(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks but for the last `UNSURE_BYTES` before damage."""
    held: deque[bytes] = deque()
    num_held = 0
    try:
        for chunk in chunks:
            held.append(chunk)
            num_held += len(chunk)
            while num_held - len(held[0]) >= UNSURE_BYTES:
                num_held -= len(held[0])
                yield held.popleft()
    except DamagedArchiveError:
        sure = b"".join(held)[: max(0, num_held - UNSURE_BYTES)]
        for start in range(0, len(sure), CHUNK_BYTES):
            yield sure[start : start + CHUNK_BYTES]
        raise
    yield from held


def _file_chunks(path: Path) -> Iterator[bytes]:
    size = READ_BYTES if path.suffix in (".gz", ".zst") else CHUNK_BYTES
    with _open_file(path) as file:
        while True:
            try:
                # One read of the layer below: a longer one would lose what came before damage.
                chunk = file.read1(size)
            except DECOMPRESSION_ERRORS as exc:
                raise DamagedArchiveError(str(exc)) from exc
            if not chunk:
                return
            yield chunk


@contextmanager
def _open_file(path: Path) -> Iterator[Readable]:
    with path.open("rb") as raw:
        if path.suffix == ".gz":
            with gzip.open(raw) as file:
                yield file
        elif path.suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True) as file:
                yield file
        else:
            yield raw
