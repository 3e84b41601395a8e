"""Configurations of the backbones: from an architecture mapping, from a folder, and back to JSON.

No code of a model folder is ever run: the class is chosen here by `model_type`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import (
    LlamaConfig,
    LlamaModel,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from worldpm.artifacts import read_json
from worldpm.errors import CheckpointError, ConfigError

# model_type -> (name in `architectures`, configuration, backbone)
FAMILIES: dict[str, tuple[str, type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "qwen2": ("Qwen2", Qwen2Config, Qwen2Model),
    "qwen3": ("Qwen3", Qwen3Config, Qwen3Model),
    "llama": ("Llama", LlamaConfig, LlamaModel),
}

# Keys that stand in files of one transformers generation or describe no architecture.
_OLD_SPELLINGS = ("rope_theta", "rope_scaling")


def backbone_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The backbone that a configuration describes."""
    return FAMILIES[config.model_type][2]


def family_name(config: PreTrainedConfig) -> str:
    """The family's name in `architectures`, such as `Qwen2`."""
    return FAMILIES[config.model_type][0]


def config_from_architecture(architecture: Mapping[str, Any]) -> PreTrainedConfig:
    """Build a configuration from a mapping such as `configs/model/*.yaml` holds.

    Raises:
        ConfigError: the family or a key is unknown, or dropout is on.
    """
    values = dict(architecture)
    model_type = values.pop("model_type", None)
    if model_type not in FAMILIES:
        raise ConfigError(
            f"architecture: model_type is {model_type!r}; known: {', '.join(FAMILIES)}"
        )
    config_class = FAMILIES[model_type][1]
    known = {field.name for field in fields(config_class)} | set(_OLD_SPELLINGS)
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"architecture: unknown key {key} for a {model_type} model{hint}")
    return _checked(config_class(**values), "architecture")


def config_from_folder(folder: Path) -> PreTrainedConfig:
    """Read `config.json` of a model folder, whatever class or remote code it names.

    Raises:
        CheckpointError: it is missing, of an unsupported family, or has dropout on.
    """
    values = read_config_json(folder)
    values.pop("auto_map", None)
    model_type = values.pop("model_type", None)
    if model_type not in FAMILIES:
        raise CheckpointError(
            f"{folder}/config.json: model_type is {model_type!r}; supported: {', '.join(FAMILIES)}"
        )
    return _checked(FAMILIES[model_type][1].from_dict(values), f"{folder}/config.json")


def read_config_json(folder: Path) -> dict[str, Any]:
    """The raw content of a folder's `config.json`.

    Raises:
        CheckpointError: there is none.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no config.json: name a model folder")
    values = read_json(path)
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected an object, found {type(values).__name__}")
    return values


def config_to_json(config: PreTrainedConfig, *, dtype: str) -> dict[str, Any]:
    """The architecture as `config.json` holds it, in the spellings of transformers 4 and 5.

    `dtype` is the name of the stored weights' type, such as `bfloat16`.
    """
    values = config.to_diff_dict()
    for key in ("architectures", "dtype", "torch_dtype", "transformers_version", "auto_map"):
        values.pop(key, None)
    rope = dict(config.rope_parameters or {})
    values["rope_parameters"] = rope
    # transformers 4 would silently take a base of 10,000 where only `rope_parameters` stands.
    values["rope_theta"] = rope.get("rope_theta")
    if rope.get("rope_type", "default") != "default":
        values["rope_scaling"] = {key: rope[key] for key in rope if key != "rope_theta"}
    values["dtype"] = values["torch_dtype"] = dtype
    return values


def _checked(config: PreTrainedConfig, where: str) -> PreTrainedConfig:
    for name, value in config.to_dict().items():
        if ("dropout" in name or name.endswith("_pdrop")) and value:
            raise ConfigError(
                f"{where}: {name} is {value}: dropout shows the chosen and the rejected response "
                "different noise; set it to 0"
            )
    layer_types = getattr(config, "layer_types", None) or ["full_attention"]
    if set(layer_types) != {"full_attention"}:
        raise ConfigError(
            f"{where}: layers with sliding-window attention are not supported; "
            "set use_sliding_window to false"
        )
    return config
