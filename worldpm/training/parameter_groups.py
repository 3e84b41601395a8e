"""Which weights share a learning rate and a weight decay."""

from __future__ import annotations

from typing import Any

from torch import nn

from worldpm.training.config import OptimizerConfig


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Backbone and head, each with and without weight decay: none on norms and biases.

    `lr_multiplier` of a group scales the schedule's learning rate. Frozen weights are in no group.
    """
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "head" if name.startswith("score.") else "backbone"
        # Under ZeRO-3 a partitioned weight is flat: its true shape is kept beside it.
        shape = getattr(parameter, "ds_shape", parameter.shape)
        groups.setdefault((part, len(shape) >= 2), []).append(parameter)
    return [
        {
            "params": parameters,
            "name": f"{part}{'' if decays else '_without_decay'}",
            "weight_decay": config.weight_decay if decays else 0.0,
            "lr": config.lr * (config.head_lr_multiplier if part == "head" else 1.0),
            "lr_multiplier": config.head_lr_multiplier if part == "head" else 1.0,
        }
        for (part, decays), parameters in groups.items()
    ]
