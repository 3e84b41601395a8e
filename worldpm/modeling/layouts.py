"""Which tensor of a model folder is what, in every layout that reward models are published in.

| layout | head tensors | written by |
|---|---|---|
| `sequence-classification` | `score.weight` | transformers, TRL, Skywork-Reward-V2, `portable` |
| `qwen2-rm` | `score.0.*`, `score.2.*` | the released WorldPM models |
| `value-head-prefix` | `<config.value_head_prefix>.weight` | OpenRLHF |
| `v-head` | `v_head.summary.weight`, `.bias` | TRL's value head, LLaMA-Factory |
| `base` | none | language models |
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedConfig

from worldpm.errors import CheckpointError
from worldpm.modeling.model_config import backbone_class
from worldpm.modeling.score_head import HeadKind, head_tensor_shapes
from worldpm.modeling.tensor_files import TensorEntry

SourceLayout = Literal["sequence-classification", "qwen2-rm", "value-head-prefix", "v-head", "base"]

# Recomputed from the config by every model; some older files carry them.
_RECOMPUTED = re.compile(r"(^|\.)rotary_emb\.inv_freq$")
_BACKBONE_PREFIXES = ("model.", "pretrained_model.model.", "")
_OUTPUT_LAYERS = ("lm_head.weight", "pretrained_model.lm_head.weight")


@dataclass(frozen=True, slots=True)
class SourceMap:
    """Every tensor of a folder, accounted for.

    `tensors` maps our names (`model.*`, `score.*`) to the folder's; `head_bias` is a bias that one
    linear bias-free head cannot hold; `dropped` gives a reason for each tensor that is left out.
    """

    layout: SourceLayout
    head: HeadKind | None
    tensors: dict[str, str]
    head_bias: str | None
    dropped: dict[str, str]

    @property
    def is_canonical(self) -> bool:
        """Whether the folder's names are ours, so that it can be loaded without conversion."""
        return self.layout in ("sequence-classification", "qwen2-rm", "base") and not self.head_bias


def expected_backbone_shapes(config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the backbone's tensors, found without allocating them.

    By the constructor: `from_config` would partition the weights where ZeRO-3 is configured.
    """
    with torch.device("meta"):
        backbone = backbone_class(config)(copy.deepcopy(config))
    return {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}


def map_tensors(
    folder: Path,
    config: PreTrainedConfig,
    entries: Mapping[str, TensorEntry],
    *,
    value_head_prefix: str = "score",
) -> SourceMap:
    """Account for every tensor of a folder.

    Raises:
        CheckpointError: naming the first tensor that is missing, unknown or of another shape.
    """
    shapes = {f"model.{name}": shape for name, shape in expected_backbone_shapes(config).items()}
    prefix = _backbone_prefix(entries)
    tensors = {
        name: prefix + name.removeprefix("model.")
        for name in shapes
        if prefix + name.removeprefix("model.") in entries
    }
    layout, head, head_tensors, bias = _find_head(folder, entries, value_head_prefix)
    if head is not None:
        shapes |= head_tensor_shapes(head, config.hidden_size)
    tensors |= head_tensors
    dropped = _account_for_rest(folder, entries, {*tensors.values(), bias})
    for name, shape in shapes.items():
        source = tensors.get(name, name if name.startswith("score") else prefix + name[6:])
        _check_shape(folder, source, entries.get(source), shape)
    return SourceMap(layout, head, tensors, bias, dropped)


def _backbone_prefix(entries: Mapping[str, TensorEntry]) -> str:
    for prefix in _BACKBONE_PREFIXES:
        if f"{prefix}embed_tokens.weight" in entries:
            return prefix
    return "model."


def _find_head(
    folder: Path, entries: Mapping[str, TensorEntry], value_head_prefix: str
) -> tuple[SourceLayout, HeadKind | None, dict[str, str], str | None]:
    named = f"{value_head_prefix}.weight"
    found: list[tuple[SourceLayout, HeadKind, dict[str, str], str]] = []
    if "score.weight" in entries:
        linear = {"score.weight": "score.weight"}
        found.append(("sequence-classification", "linear", linear, "score.bias"))
    if any(name.startswith(("score.0.", "score.2.")) for name in entries):
        names = {name: name for name in head_tensor_shapes("mlp", 1) if name in entries}
        found.append(("qwen2-rm", "mlp", names, ""))
    if value_head_prefix != "score" and named in entries:
        bias = f"{value_head_prefix}.bias"
        found.append(("value-head-prefix", "linear", {"score.weight": named}, bias))
    if "v_head.summary.weight" in entries:
        summary = {"score.weight": "v_head.summary.weight"}
        found.append(("v-head", "linear", summary, "v_head.summary.bias"))
    if len(found) > 1:
        names = ", ".join(next(iter(tensors.values())) for _, _, tensors, _ in found)
        raise CheckpointError(f"{folder} has more than one head: {names}")
    if not found:
        return "base", None, {}, None
    layout, kind, tensors, bias = found[0]
    return layout, kind, tensors, bias if bias in entries else None


def _account_for_rest(
    folder: Path, entries: Mapping[str, TensorEntry], used: set[str | None]
) -> dict[str, str]:
    dropped: dict[str, str] = {}
    for name in entries:
        if name in used:
            continue
        if name in _OUTPUT_LAYERS:
            dropped[name] = "output layer of the language model"
        elif _RECOMPUTED.search(name):
            dropped[name] = "recomputed from the configuration"
        else:
            raise CheckpointError(
                f"{folder}: the tensor {name} belongs to neither the backbone nor a known head"
            )
    return dropped


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
