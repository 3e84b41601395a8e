"""Unpack a member of a 7z archive as a stream, on a thread ahead of the reader.

The `7z` program does it where there is one (it can use several threads), else py7zr.
"""

from __future__ import annotations

import io
import lzma
import queue
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import py7zr
import zstandard
from py7zr.exceptions import ArchiveError
from py7zr.io import Py7zIO, WriterFactory

PROGRAMS = ("7zz", "7z", "7za")

# What decompressors raise when the bytes are not what they should be.
DECOMPRESSION_ERRORS = (
    *(EOFError, OSError, ValueError),
    *(ArchiveError, lzma.LZMAError, zlib.error, zstandard.ZstdError),
)
# py7zr loses what it made of the piece that broke, so the pieces are small.
PACKED_BYTES = 32 * 1024


class DamagedArchiveError(Exception):
    """The stream broke off; what came before it is good."""


class _UnknownMethodError(Exception):
    """The program cannot unpack this; nothing was put out."""


def unpack_member(path: Path, member: str, num_bytes: int) -> Iterator[bytes]:
    """A member of an archive, in pieces of about `num_bytes`.

    Raises:
        DamagedArchiveError: after what came out before the damage was noticed.
    """
    by_py7zr = partial(_unpack_by_py7zr, path, member, num_bytes)
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        yield from _read_ahead(by_py7zr)
        return
    try:
        yield from _read_ahead(partial(_unpack_by_program, program, path, member, num_bytes))
    except _UnknownMethodError:  # 7-Zip itself knows no Zstandard, Brotli or LZ4; py7zr does
        yield from _read_ahead(by_py7zr)


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
            if not pieces.empty():  # the thread may wait for room
                pieces.get()
            thread.join(timeout=0.01)


def _unpack_by_program(
    program: str, path: Path, member: str, num_bytes: int, put: Callable[[bytes], None]
) -> None:
    # -spd: the name is no pattern.
    command = [program, "x", "-so", "-bd", "-spd", "--", str(path.resolve()), member]
    is_empty = True
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            while chunk := process.stdout.read(num_bytes):
                is_empty = False
                put(chunk)
            message = process.stderr.read(4096).decode(errors="replace").strip()
        except BaseException:
            # Such as a reader that went away: leaving the block waits for the end.
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
    """Hands on what py7zr extracts, in pieces of at least `num_bytes`."""

    def __init__(self, num_bytes: int, put: Callable[[bytes], None]) -> None:
        self._num_bytes = num_bytes
        self._put = put
        self._buffer = bytearray()
        self._size = 0

    def write(self, s: bytes | bytearray) -> int:
        self._buffer += s
        self._size += len(s)
        if len(self._buffer) >= self._num_bytes:
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


def _unpack_by_py7zr(path: Path, member: str, num_bytes: int, put: Callable[[bytes], None]) -> None:
    writer = _Writer(num_bytes, put)
    try:
        with _ShortReads(path) as file, closing(py7zr.SevenZipFile(file)) as archive:
            file.limit = PACKED_BYTES  # the header has been read
            archive.extract(targets=[member], factory=_OneWriter(writer))
        writer.flush()
    except DECOMPRESSION_ERRORS as exc:
        writer.flush()
        raise DamagedArchiveError(str(exc) or type(exc).__name__) from exc
