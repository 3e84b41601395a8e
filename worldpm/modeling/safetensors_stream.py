"""Copy and cast tensors between safetensors files in pieces, whatever their size.

A file is eight bytes of header length (little-endian), a JSON header that gives each tensor's type,
shape and byte range, and the bytes (the safetensors format, version 0.8 of the library).
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from worldpm.errors import CheckpointError

TORCH_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
DTYPE_NAMES = {torch_dtype: name for name, torch_dtype in TORCH_DTYPES.items()}

# Bytes of a tensor in memory at once.
PIECE_BYTES = 32 * 1024 * 1024
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's bytes in a file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class TensorCopy:
    """A tensor to write: its new name, its source, its new type as the format spells it."""

    name: str
    source: StoredTensor
    dtype: str

    @property
    def num_bytes(self) -> int:
        """Bytes that it takes in the target."""
        if self.dtype == self.source.dtype:
            return self.source.num_bytes
        return math.prod(self.source.shape) * TORCH_DTYPES[self.dtype].itemsize


def read_stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Where a file's tensors stand.

    Raises:
        CheckpointError: the file is no safetensors file or shorter than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise CheckpointError(f"{path} is damaged: no safetensors header")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except (json.JSONDecodeError, UnicodeDecodeError) as exc:
            raise CheckpointError(f"{path} is damaged: {exc}") from exc
    header.pop("__metadata__", None)
    stored: dict[str, StoredTensor] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if 8 + length + end > size:
            raise CheckpointError(f"{path} is damaged: the tensor {name} ends after the file")
        shape = tuple(entry["shape"])
        stored[name] = StoredTensor(
            path, name, entry["dtype"], shape, 8 + length + begin, end - begin
        )
    return stored


def write_copies(path: Path, copies: Iterable[TensorCopy]) -> None:
    """Write a safetensors file of copied tensors in memory of one piece.

    The file appears whole or not at all.

    Raises:
        CheckpointError: a cast is asked from a type that is no float.
    """
    copies = list(copies)
    hidden = path.with_name(f".{path.name}.tmp")
    try:
        with hidden.open("wb") as target:
            target.write(_header(copies))
            for copy in copies:
                _copy(copy, target)
            target.flush()
            os.fsync(target.fileno())
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)


def _header(copies: list[TensorCopy]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for copy in copies:
        header[copy.name] = {
            "dtype": copy.dtype,
            "shape": list(copy.source.shape),
            "data_offsets": [offset, offset + copy.num_bytes],
        }
        offset += copy.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of eight bytes
    return struct.pack("<Q", len(text)) + text


def _copy(copy: TensorCopy, target: IO[bytes]) -> None:
    source = copy.source
    if copy.dtype != source.dtype and source.dtype not in TORCH_DTYPES:
        raise CheckpointError(
            f"{source.file}: the tensor {source.name} is {source.dtype}, no float"
        )
    with source.file.open("rb") as file:
        file.seek(source.start)
        left = source.num_bytes
        while left:
            piece = bytearray(file.read(min(PIECE_BYTES, left)))
            if not piece:
                raise CheckpointError(f"{source.file} became shorter while it was read")
            left -= len(piece)
            target.write(piece if copy.dtype == source.dtype else _cast(piece, source, copy.dtype))


def _cast(piece: bytearray, source: StoredTensor, dtype: str) -> bytes:
    values = torch.frombuffer(piece, dtype=TORCH_DTYPES[source.dtype])
    return values.to(TORCH_DTYPES[dtype]).view(torch.uint8).numpy().tobytes()
