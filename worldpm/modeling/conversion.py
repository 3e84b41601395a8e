"""Bring a model folder of any supported layout into ours, shard by shard, in little memory.

A 145 GB model needs the memory of one piece of one tensor. An interrupted conversion goes on at the
first unfinished shard; the output appears whole or not at all.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from worldpm.artifacts import fingerprint, publish_directory, read_json, write_json
from worldpm.chat_template import TEMPLATES, Encoder
from worldpm.errors import CheckpointError
from worldpm.log import Progress
from worldpm.modeling.checkpoint_card import CARD_FILE, CheckpointCard, SelfTest
from worldpm.modeling.checkpoint_io import check_vocabulary, checkpoint_config, dtype_name
from worldpm.modeling.layouts import SourceMap, map_tensors
from worldpm.modeling.model_config import config_from_folder, read_config_json
from worldpm.modeling.safetensors_stream import (
    DTYPE_NAMES,
    TORCH_DTYPES,
    StoredTensor,
    TensorCopy,
    read_stored_tensors,
    write_copies,
)
from worldpm.modeling.template_match import require_template
from worldpm.modeling.tensor_files import (
    DEFAULT_SHARD_BYTES,
    TensorEntry,
    plan_shards,
    shard_name,
    tensor_files,
    write_index,
)

# LLaMA-Factory keeps its head in a file of its own.
_HEAD_FILE = "value_head.safetensors"
_JOB_FILE = "conversion.json"


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """What a conversion is asked for.

    `dtype` None keeps the stored types; the head keeps its own always. `drop_bias` allows leaving
    out a head's bias, which shifts every score by the same amount.
    """

    template: str | None = None
    pad_token: str | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    drop_bias: bool = False
    max_tokens: int | None = None
    shard_bytes: int = DEFAULT_SHARD_BYTES
    published_scores: tuple[SelfTest, ...] = ()
    expected_layout: str | None = None


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """What a conversion will write."""

    source: SourceMap
    encoder: Encoder
    card: CheckpointCard
    config: dict[str, Any]
    shards: tuple[tuple[TensorCopy, ...], ...]
    identity: str

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors to be written."""
        return sum(copy.num_bytes for shard in self.shards for copy in shard)

    @property
    def num_params(self) -> int:
        """Number of weights."""
        return sum(math.prod(copy.source.shape) for shard in self.shards for copy in shard)


def plan_conversion(source: Path, options: ConversionOptions) -> ConversionPlan:
    """Account for everything in `source` from headers and small files alone.

    Raises:
        CheckpointError: a tensor is missing or unknown, there is no head, the template is unclear.
    """
    raw = read_config_json(source)
    config = config_from_folder(source)
    stored = _read_stored(source)
    entries = {name: TensorEntry(t.file, t.shape, t.dtype) for name, t in stored.items()}
    prefix = raw.get("value_head_prefix", "score")
    tensors = map_tensors(source, config, entries, value_head_prefix=prefix)
    _check_layout(source, tensors, stored, options)
    encoder = _build_encoder(source, tensors, options)
    check_vocabulary(encoder, config)
    layout = "qwen2-rm" if tensors.head == "mlp" else "portable"
    card = CheckpointCard.describe(
        encoder,
        layout=layout,
        head_kind=tensors.head or "linear",
        max_tokens=options.max_tokens or _recorded_max_tokens(source),
        score_mean=raw.get("mean"),
        score_std=raw.get("std"),
        published_scores=options.published_scores,
        provenance=_provenance(source, tensors),
    )
    copies = _plan_copies(tensors, stored, options)
    shards = _deal(copies, options.shard_bytes)
    dtype = dtype_name(TORCH_DTYPES[copies["model.embed_tokens.weight"].dtype])
    return ConversionPlan(
        tensors,
        encoder,
        card,
        checkpoint_config(config, card, dtype=dtype),
        shards,
        _identify(stored, card, shards),
    )


def convert(plan: ConversionPlan, target: Path, *, progress: Progress) -> int:
    """Write the planned checkpoint; returns how many shards an earlier run had finished.

    Raises:
        CheckpointError: the target exists.
    """
    if target.exists():
        raise CheckpointError(f"{target} exists: name another folder, or remove it")
    hidden = target.with_name(f".{target.name}.partial")
    _open_workplace(hidden, plan.identity)
    finished = 0
    for number, shard in enumerate(plan.shards):
        path = hidden / shard_name(number, len(plan.shards))
        if path.is_file():
            finished += 1
        else:
            write_copies(path, shard)
        progress.advance(sum(copy.num_bytes for copy in shard))
    if len(plan.shards) > 1:
        names = [[copy.name for copy in shard] for shard in plan.shards]
        write_index(hidden, names, plan.num_bytes)
    write_json(hidden / "config.json", plan.config)
    plan.encoder.save(hidden)
    plan.card.write(hidden)
    (hidden / _JOB_FILE).unlink()
    publish_directory(hidden, target)
    return finished


def _read_stored(source: Path) -> dict[str, StoredTensor]:
    paths = tensor_files(source)
    if (source / _HEAD_FILE).is_file():
        paths.append(source / _HEAD_FILE)
    stored: dict[str, StoredTensor] = {}
    for path in paths:
        for name, tensor in read_stored_tensors(path).items():
            if name in stored:
                raise CheckpointError(
                    f"the tensor {name} stands in {stored[name].file.name} and in {path.name}"
                )
            stored[name] = tensor
    return stored


def _check_layout(
    source: Path, tensors: SourceMap, stored: Mapping[str, StoredTensor], options: ConversionOptions
) -> None:
    if tensors.head is None:
        raise CheckpointError(
            f"{source} has no score head (the tensor score.weight is missing): it is a language "
            "model; training starts from it with an untrained head"
        )
    expected = options.expected_layout
    if expected is not None and tensors.layout != expected:
        raise CheckpointError(f"{source} has the layout {tensors.layout}, expected {expected}")
    if tensors.head_bias is None or options.drop_bias:
        return
    value = _read_scalar(stored[tensors.head_bias])
    if value != 0.0:
        raise CheckpointError(
            f"{source}: the tensor {tensors.head_bias} is {value:.6g}; a portable head has no "
            "bias. Leaving it out shifts every score and changes no preference: --drop-bias"
        )


def _read_scalar(tensor: StoredTensor) -> float:
    with tensor.file.open("rb") as file:
        file.seek(tensor.start)
        data = bytearray(file.read(tensor.num_bytes))
    import torch

    return float(np.asarray(torch.frombuffer(data, dtype=TORCH_DTYPES[tensor.dtype]).float())[0])


def _build_encoder(source: Path, tensors: SourceMap, options: ConversionOptions) -> Encoder:
    if options.template is None and options.pad_token is None:
        if (source / "worldpm_template.json").is_file():
            return Encoder.from_folder(source)
        if tensors.layout == "qwen2-rm":
            # The released models: their tokenizer's own template inserts a default system text.
            return Encoder.from_folder(source, "chatml")
    name = require_template(source, options.template)
    encoder = Encoder.from_folder(source, name)
    if options.pad_token is None:
        return encoder
    return Encoder(encoder.tokenizer, replace(TEMPLATES[name], pad_token=options.pad_token))


def _recorded_max_tokens(source: Path) -> int | None:
    return CheckpointCard.read(source).max_tokens if (source / CARD_FILE).is_file() else None


def _provenance(source: Path, tensors: SourceMap) -> dict[str, Any]:
    return {
        "converted_from": source.name,
        "source_layout": tensors.layout,
        "dropped_tensors": dict(sorted(tensors.dropped.items()))
        | ({tensors.head_bias: "bias of the head"} if tensors.head_bias else {}),
    }


def _plan_copies(
    tensors: SourceMap, stored: Mapping[str, StoredTensor], options: ConversionOptions
) -> dict[str, TensorCopy]:
    wanted = {dtype_name(dtype): name for dtype, name in DTYPE_NAMES.items()}
    copies: dict[str, TensorCopy] = {}
    for name, source_name in tensors.tensors.items():
        tensor = stored[source_name]
        is_backbone = name.startswith("model.")
        dtype = wanted[options.dtype] if options.dtype and is_backbone else tensor.dtype
        copies[name] = TensorCopy(name, tensor, dtype)
    return copies


def _deal(copies: Mapping[str, TensorCopy], shard_bytes: int) -> tuple[tuple[TensorCopy, ...], ...]:
    sizes = ((name, copy.num_bytes) for name, copy in copies.items())
    return tuple(tuple(copies[name] for name in names) for names in plan_shards(sizes, shard_bytes))


def _identify(
    stored: Mapping[str, StoredTensor],
    card: CheckpointCard,
    shards: tuple[tuple[TensorCopy, ...], ...],
) -> str:
    files = sorted({tensor.file for tensor in stored.values()})
    stats = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    names = [[[copy.name, copy.dtype] for copy in shard] for shard in shards]
    return fingerprint(stats, card.encoder_hash, card.layout, names)


def _open_workplace(hidden: Path, identity: str) -> None:
    job = hidden / _JOB_FILE
    if job.is_file() and read_json(job)["identity"] == identity:
        return
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    write_json(job, {"identity": identity})
