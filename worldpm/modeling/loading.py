"""Load a backbone from a model folder after every tensor has been accounted for."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from worldpm.errors import CheckpointError
from worldpm.modeling.model_config import backbone_class
from worldpm.modeling.score_head import HeadKind, head_tensor_names
from worldpm.modeling.tensor_files import TensorEntry, read_tensor_index

# Recomputed from the config by every model; some older files carry them.
_RECOMPUTED = re.compile(r"(^|\.)rotary_emb\.inv_freq$")

# Heads that other trainers write, by a tensor that gives them away: they are converted, not loaded.
_FOREIGN_HEADS = {
    "v_head.summary.weight": "a TRL or LLaMA-Factory value head",
    "value_head.weight": "an OpenRLHF value head under another name",
    "reward_head.weight": "a reward head under another name",
}


@dataclass(frozen=True, slots=True)
class CheckpointLayout:
    """What a folder's tensors are: backbone, head, and those that a preference model drops."""

    head: HeadKind | None
    head_tensors: dict[str, TensorEntry]
    backbone_tensors: dict[str, TensorEntry]
    dropped: list[str] = field(default_factory=list)


def expected_backbone_shapes(config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the backbone's tensors, found without allocating them."""
    with torch.device("meta"):
        backbone = backbone_class(config)._from_config(config)
    return {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}


def inspect_checkpoint(folder: Path, config: PreTrainedConfig) -> CheckpointLayout:
    """Account for every tensor of a folder.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown or of another shape.
    """
    entries = read_tensor_index(folder)
    expected = expected_backbone_shapes(config)
    prefix = "model." if any(name.startswith("model.") for name in entries) else ""
    backbone: dict[str, TensorEntry] = {}
    head: dict[str, TensorEntry] = {}
    dropped: list[str] = []
    for name, entry in entries.items():
        if name.removeprefix(prefix) in expected and name.startswith(prefix):
            backbone[name.removeprefix(prefix)] = entry
        elif name.startswith("score."):
            head[name] = entry
        elif name == "lm_head.weight" or _RECOMPUTED.search(name):
            dropped.append(name)
        else:
            raise CheckpointError(_describe_unknown(name, folder))
    for name, shape in expected.items():
        _check_shape(folder, prefix + name, backbone.get(name), shape)
    return CheckpointLayout(
        _identify_head(head, config.hidden_size, folder), head, backbone, dropped
    )


def _describe_unknown(name: str, folder: Path) -> str:
    if name in _FOREIGN_HEADS:
        return f"{folder}: the tensor {name} is {_FOREIGN_HEADS[name]}: run `worldpm convert` first"
    return f"{folder}: the tensor {name} belongs to neither the backbone nor a known head"


def _check_shape(
    folder: Path, name: str, entry: TensorEntry | None, shape: tuple[int, ...]
) -> None:
    if entry is None:
        raise CheckpointError(f"{folder}: the tensor {name} is missing")
    if entry.shape != shape:
        raise CheckpointError(
            f"{folder}: the tensor {name} has the shape {list(entry.shape)}, the configuration "
            f"asks for {list(shape)}"
        )


def _identify_head(head: dict[str, TensorEntry], width: int, folder: Path) -> HeadKind | None:
    if not head:
        return None
    shapes: dict[HeadKind, dict[str, tuple[int, ...]]] = {
        "linear": {"score.weight": (1, width)},
        "mlp": {
            "score.0.weight": (width, width),
            "score.0.bias": (width,),
            "score.2.weight": (1, width),
            "score.2.bias": (1,),
        },
    }
    kind: HeadKind = "linear" if "score.weight" in head else "mlp"
    for name in sorted(head.keys() - set(head_tensor_names(kind))):
        raise CheckpointError(f"{folder}: the tensor {name} belongs to no known head")
    for name in head_tensor_names(kind):
        _check_shape(folder, name, head.get(name), shapes[kind][name])
    return kind


def load_backbone(
    folder: Path,
    config: PreTrainedConfig,
    *,
    dtype: torch.dtype,
    attn_implementation: str,
    device_map: str | Mapping[str, str] | None = None,
) -> PreTrainedModel:
    """Read the backbone of an inspected folder, in memory of the model plus one shard."""
    with _quiet_transformers():
        backbone, report = backbone_class(config).from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=attn_implementation,
            use_safetensors=True,
            device_map=device_map,
            output_loading_info=True,
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"{folder}: the tensor {missing[0]} was not loaded")
    return backbone


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    # Its load report calls the head "unexpected" by design: the head is read here.
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
