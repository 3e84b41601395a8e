"""Safetensors of a model folder: what tensors there are, reading and writing them one by one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from worldpm.artifacts import read_json, write_atomic, write_json
from worldpm.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

# As large as the hub's usual shards, small enough to rewrite one at a time.
DEFAULT_SHARD_BYTES = 5_000_000_000


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor stands, its shape and its type as the file spells it (`BF16`)."""

    file: Path
    shape: tuple[int, ...]
    dtype: str


def tensor_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, in the order of names.

    Raises:
        CheckpointError: there are none, or the index names a file that is missing.
    """
    index = folder / INDEX_FILE
    if index.is_file():
        names = sorted(set(read_json(index)["weight_map"].values()))
        for name in names:
            if not (folder / name).is_file():
                raise CheckpointError(f"{index} names {name}, which is missing")
        return [folder / name for name in names]
    if (folder / SINGLE_FILE).is_file():
        return [folder / SINGLE_FILE]
    others = sorted(path.name for path in folder.glob("*.bin"))
    found = f"; found {', '.join(others[:3])}: save it as safetensors first" if others else ""
    raise CheckpointError(f"{folder} holds no {SINGLE_FILE}{found}")


def read_tensor_index(folder: Path) -> dict[str, TensorEntry]:
    """Name every tensor of a folder from the files' headers alone.

    Raises:
        CheckpointError: a file is damaged, a name stands twice, or the index disagrees.
    """
    entries: dict[str, TensorEntry] = {}
    for path in tensor_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  a method of the file, not a mapping
                    if name in entries:
                        raise CheckpointError(
                            f"the tensor {name} stands in {entries[name].file.name} and {path.name}"
                        )
                    part = file.get_slice(name)
                    entries[name] = TensorEntry(path, tuple(part.get_shape()), part.get_dtype())
        except SafetensorError as exc:
            raise CheckpointError(f"{path} is damaged: {exc}") from exc
    _check_index(folder, entries)
    return entries


def read_tensor(entry: TensorEntry, name: str) -> torch.Tensor:
    """Read one tensor into memory."""
    with safe_open(entry.file, framework="pt") as file:
        return file.get_tensor(name)


def write_tensors(
    tensors: Mapping[str, torch.Tensor], folder: Path, *, shard_bytes: int = DEFAULT_SHARD_BYTES
) -> None:
    """Write tensors as one safetensors file, or as shards with an index."""
    shards = list(plan_shards(((name, t.nbytes) for name, t in tensors.items()), shard_bytes))
    for number, names in enumerate(shards):
        path = folder / shard_name(number, len(shards))
        content = {name: tensors[name].detach().cpu().contiguous() for name in names}
        write_atomic(path, lambda hidden, c=content: save_file(c, hidden, {"format": "pt"}))
    if len(shards) > 1:
        sizes = {name: tensor.nbytes for name, tensor in tensors.items()}
        write_index(folder, shards, sum(sizes.values()))


def plan_shards(sizes: Iterable[tuple[str, int]], shard_bytes: int) -> Iterator[list[str]]:
    """Deal tensors, in their order, to shards of at most `shard_bytes` (or of one tensor)."""
    names: list[str] = []
    total = 0
    for name, size in sizes:
        if names and total + size > shard_bytes:
            yield names
            names, total = [], 0
        names.append(name)
        total += size
    if names:
        yield names


def shard_name(number: int, num_shards: int) -> str:
    """The file name of shard `number` (from 0)."""
    if num_shards == 1:
        return SINGLE_FILE
    return f"model-{number + 1:05d}-of-{num_shards:05d}.safetensors"


def write_index(folder: Path, shards: list[list[str]], total_bytes: int) -> None:
    """Write the index that maps tensors to shards."""
    weight_map = {
        name: shard_name(number, len(shards))
        for number, names in enumerate(shards)
        for name in names
    }
    write_json(
        folder / INDEX_FILE,
        {"metadata": {"total_size": total_bytes}, "weight_map": dict(sorted(weight_map.items()))},
    )


def _check_index(folder: Path, entries: Mapping[str, TensorEntry]) -> None:
    index = folder / INDEX_FILE
    if not index.is_file():
        return
    weight_map: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    for name in sorted(weight_map.keys() ^ entries.keys()):
        place = "the index but in no file" if name in weight_map else "a file but not in the index"
        raise CheckpointError(f"{folder}: the tensor {name} stands in {place}")
