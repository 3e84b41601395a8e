"""Low-rank adapters: put beside a model's linear layers, and added to its weights on export.

The head is no part of the adapter: it is trained whole, and merged checkpoints hold it as trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from worldpm.errors import CheckpointError, ConfigError, MissingDependencyError
from worldpm.modeling.layouts import map_tensors
from worldpm.modeling.model_config import config_from_folder
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.tensor_files import read_tensor, read_tensor_index
from worldpm.training.config import AdapterConfig

# The names that peft gives to the two factors of a layer's update.
DOWN, UP = "lora_A.default.weight", "lora_B.default.weight"


def add_adapter(model: PreferenceModel, config: AdapterConfig, *, seed: int) -> None:
    """Freeze the backbone and put adapters beside its layers; the head stays trainable.

    The update begins at exactly 0; equal seeds give equal adapters.

    Raises:
        ConfigError: no layer has one of the names.
    """
    from peft import LoraConfig, inject_adapter_in_model

    named = {name.rpartition(".")[2] for name, _ in model.model.named_modules()}
    missing = [name for name in config.target_modules if name not in named]
    if missing:
        raise ConfigError(f"model.adapter.target_modules: the model has no layer {missing[0]}")
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType]  a factor, any number
        target_modules=list(config.target_modules),
        lora_dropout=0.0,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(lora, model.model)
    for name, parameter in model.model.named_parameters():
        parameter.requires_grad_(name.endswith((DOWN, UP)))
    for parameter in model.score.parameters():
        parameter.requires_grad_(True)


def merge_adapter(
    trained: Mapping[str, torch.Tensor], folder: Path, config: AdapterConfig, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The whole model: the folder's weights with the trained updates, and the trained head.

    `trained` are the trainable weights by name, as the engine gathers them. Frozen weights come
    from the folder as they are, so that a model trained over 4-bit weights merges into the
    original ones. The sum is taken in fp32 and stored as `dtype`.

    Raises:
        CheckpointError: a trained weight belongs to no tensor of the folder.
    """
    entries = read_tensor_index(folder)
    names = map_tensors(folder, config_from_folder(folder), entries).tensors
    merged = {name: tensor for name, tensor in trained.items() if name.startswith("score.")}
    used = set(merged)
    for name, source in names.items():
        if name.startswith("score."):
            continue
        weight = read_tensor(entries[source], source)
        layer = name.removesuffix("weight")
        if layer + UP in trained:
            update = trained[layer + UP].float() @ trained[layer + DOWN].float()
            weight = weight.float() + config.alpha / config.rank * update
            used |= {layer + UP, layer + DOWN}
        merged[name] = weight.to(dtype)
    lost = sorted(trained.keys() - used)
    if lost:
        raise CheckpointError(f"{folder} has no tensor that the trained {lost[0]} could change")
    return merged


def refuse_quantisation_without_gpu(config: AdapterConfig | None) -> None:
    """Say before anything is read that 4-bit weights need a GPU and their package.

    Raises:
        ConfigError: there is no GPU.
        MissingDependencyError: bitsandbytes is not installed.
    """
    if config is None or config.kind != "qlora":
        return
    if not torch.cuda.is_available():
        raise ConfigError(
            "model.adapter.kind is qlora: 4-bit weights need a GPU, and torch finds none here; "
            "use model.adapter.kind=lora"
        )
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise MissingDependencyError("bitsandbytes", "qlora", "model.adapter.kind qlora")


def quantise_backbone(backbone: nn.Module, config: AdapterConfig, device: torch.device) -> None:
    """Replace the adapted layers by 4-bit ones (NF4, double quantisation) on `device`.

    Layers go one by one: the peak on the device is that of one layer beside the 4-bit model.
    """
    from bitsandbytes.nn import (  # pyright: ignore[reportMissingImports]
        Linear4bit,
        Params4bit,
    )

    for parent in list(backbone.modules()):
        for name, layer in list(parent.named_children()):
            if name not in config.target_modules or not isinstance(layer, nn.Linear):
                continue
            bias = layer.bias is not None
            quantised = Linear4bit(
                layer.in_features,
                layer.out_features,
                bias=bias,
                compute_dtype=torch.bfloat16,
                compress_statistics=True,
                quant_type="nf4",
                device="meta",
            )
            quantised.weight = Params4bit(
                layer.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
            )
            if bias:
                quantised.bias = layer.bias
            setattr(parent, name, quantised.to(device))
