"""Load a backbone from a model folder after every tensor has been accounted for."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from worldpm.errors import CheckpointError
from worldpm.modeling.layouts import map_tensors
from worldpm.modeling.model_config import backbone_class, read_config_json
from worldpm.modeling.score_head import HeadKind, head_tensor_shapes
from worldpm.modeling.tensor_files import TensorEntry, read_tensor_index


@dataclass(frozen=True, slots=True)
class CheckpointLayout:
    """What a folder's tensors are: the head's by name, and those that are left out."""

    head: HeadKind | None
    head_tensors: dict[str, TensorEntry]
    dropped: dict[str, str]


def inspect_checkpoint(folder: Path, config: PreTrainedConfig) -> CheckpointLayout:
    """Account for every tensor of a folder that can be loaded as it is.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown or of another shape, or
            the head that has to be converted first.
    """
    entries = read_tensor_index(folder)
    prefix = read_config_json(folder).get("value_head_prefix", "score")
    source = map_tensors(folder, config, entries, value_head_prefix=prefix)
    if not source.is_canonical:
        name = source.head_bias or source.tensors["score.weight"]
        raise CheckpointError(
            f"{folder}: the tensor {name} is a head of the layout {source.layout}: "
            "bring it into ours with `worldpm convert`"
        )
    names = [] if source.head is None else head_tensor_shapes(source.head, config.hidden_size)
    return CheckpointLayout(
        source.head, {name: entries[source.tensors[name]] for name in names}, source.dropped
    )


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
