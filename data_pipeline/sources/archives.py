"""The bytes of a dump's XML, streamed out of whatever holds them: nothing is unpacked to disk.

Plain files, `.gz`, `.zst` and `.7z`. The last is unpacked ahead of the reader, by the `7z` program
where there is one (it can use several threads), else by py7zr.
"""

from __future__ import annotations

import gzip
import io
import lzma
import queue
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol

import py7zr
import zstandard
from py7zr.exceptions import ArchiveError
from py7zr.io import Py7zIO, WriterFactory

from worldpm.errors import InputError
from worldpm.object_store import StoredFile

CHUNK_BYTES = 4 * 1024 * 1024
READ_BYTES = 1024 * 1024
PROGRAMS = ("7zz", "7z", "7za")
SEVEN_ZIP_MAGIC = b"7z\xbc\xaf\x27\x1c"

# What decompressors raise when the bytes are not what they should be.
DECOMPRESSION_ERRORS = (
    *(EOFError, OSError, ValueError),
    *(ArchiveError, lzma.LZMAError, zlib.error, zstandard.ZstdError),
)
# Before a decompressor notices damage it may put out nonsense: a block of BZip2 is 900 kB, and its
# checksum stands behind it.
UNSURE_BYTES = 1024 * 1024
# py7zr loses what it made of the piece that broke, so the pieces are small.
PACKED_BYTES = 32 * 1024


class Readable(Protocol):
    """A binary file that can be read in pieces."""

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes, none at the end."""
        ...


class DamagedArchiveError(Exception):
    """The stream broke off; what came before it is good."""


class _UnknownMethodError(Exception):
    """The program cannot unpack this; nothing was put out."""


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
            return _of_equal_size(_archive_chunks(self.path, self.member), UNSURE_BYTES)
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


def _of_equal_size(chunks: Iterator[bytes], num_unsure: int = 0) -> Iterator[bytes]:
    """Cut anew, so that parts and notes downstream do not depend on who decompresses.

    The last `num_unsure` bytes before damage are left out.
    """
    rest = bytearray()
    try:
        for chunk in chunks:
            if not rest and not num_unsure and len(chunk) == CHUNK_BYTES:
                yield chunk
                continue
            rest += chunk
            while len(rest) >= CHUNK_BYTES + num_unsure:
                yield bytes(rest[:CHUNK_BYTES])
                del rest[:CHUNK_BYTES]
    except DamagedArchiveError:
        yield bytes(rest[: max(0, len(rest) - num_unsure)])
        raise
    for start in range(0, len(rest), CHUNK_BYTES):
        yield bytes(rest[start : start + CHUNK_BYTES])


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


def _archive_chunks(path: Path, member: str) -> Iterator[bytes]:
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        yield from _read_ahead(partial(_unpack_by_py7zr, path, member))
        return
    try:
        yield from _read_ahead(partial(_unpack_by_program, program, path, member))
    except _UnknownMethodError:  # 7-Zip itself knows no Zstandard, Brotli or LZ4; py7zr does
        yield from _read_ahead(partial(_unpack_by_py7zr, path, member))


class _ReaderGoneError(Exception):
    """The reader went away: ends the unpacking thread."""


def _read_ahead(unpack: Callable[[Callable[[bytes], None]], None]) -> Iterator[bytes]:
    """What `unpack` hands to its argument, on a thread a bounded number of pieces ahead."""
    pieces: queue.Queue[bytes | BaseException | None] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def put(piece: bytes) -> None:
        if stop.is_set():
            raise _ReaderGoneError
        pieces.put(piece)

    def run() -> None:
        try:
            unpack(put)
            pieces.put(None)
        except _ReaderGoneError:
            pass
        except BaseException as exc:  # noqa: BLE001  handed to the reading thread, which raises it
            pieces.put(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (piece := pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
    finally:
        stop.set()
        while thread.is_alive():
            with_piece = not pieces.empty()
            if with_piece:
                pieces.get()
            thread.join(timeout=0.01)


def _unpack_by_program(program: str, path: Path, member: str, put: Callable[[bytes], None]) -> None:
    # -spd: the name is no pattern.
    command = [program, "x", "-so", "-bd", "-spd", "--", str(path.resolve()), member]
    is_empty = True
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while chunk := process.stdout.read(CHUNK_BYTES):
                is_empty = False
                put(chunk)
            message = process.stderr.read(4096).decode(errors="replace").strip()
        except (
            BaseException
        ):  # such as a reader that went away: leaving the block waits for the end
            process.kill()
            raise
    if process.returncode == 0:
        return
    if is_empty and "Unsupported Method" in message:
        raise _UnknownMethodError
    raise DamagedArchiveError(f"7z ended with code {process.returncode}: {message[:200]}")


class _ShortReads(io.FileIO):
    """A file that gives at most `limit` bytes at a time."""

    limit = -1

    def read(self, size: int | None = -1, /) -> bytes:
        size = -1 if size is None else size
        return super().read(min(size, self.limit) if size >= 0 <= self.limit else size)


class _Writer(Py7zIO):
    """Hands on what py7zr extracts, in pieces of at least `CHUNK_BYTES`."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._buffer = bytearray()
        self._size = 0

    def write(self, s: bytes | bytearray) -> int:
        self._buffer += s
        self._size += len(s)
        if len(self._buffer) >= CHUNK_BYTES:
            self.flush()
        return len(s)

    def flush(self) -> None:
        if self._buffer:
            self._put(bytes(self._buffer))
            self._buffer.clear()

    def read(self, size: int | None = None) -> bytes:
        del size
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        del offset, whence
        return 0

    def size(self) -> int:
        return self._size


class _OneWriter(WriterFactory):
    def __init__(self, writer: _Writer) -> None:
        self._writer = writer

    def create(self, filename: str) -> Py7zIO:
        del filename
        return self._writer


def _unpack_by_py7zr(path: Path, member: str, put: Callable[[bytes], None]) -> None:
    writer = _Writer(put)
    try:
        with _ShortReads(path) as file, closing(py7zr.SevenZipFile(file)) as archive:
            file.limit = PACKED_BYTES  # the header has been read
            archive.extract(targets=[member], factory=_OneWriter(writer))
        writer.flush()
    except DECOMPRESSION_ERRORS as exc:
        writer.flush()
        raise DamagedArchiveError(str(exc) or type(exc).__name__) from exc
