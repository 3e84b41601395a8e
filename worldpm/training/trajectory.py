"""What decides the numbers of a run: a resumed run must agree in these settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldpm.training.config import TrainConfig

# Keys of the sections below that change speed alone.
SPEED_KEYS = {"batch": ("token_budget",), "model": ("attention", "activation_checkpointing")}
TRAJECTORY_SECTIONS = ("seed", "model", "batch", "optimizer", "schedule", "loss")


def trajectory(config: TrainConfig) -> dict[str, Any]:
    """The part of the configuration that decides the losses, as JSON values.

    Token budget, attention backend and stage are left out: they change speed, not the gradient.
    """
    return select_trajectory(config.model_dump(mode="json"))


def select_trajectory(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same part of a configuration that is JSON already, such as a run record's."""
    values = {name: config[name] for name in TRAJECTORY_SECTIONS}
    for section, keys in SPEED_KEYS.items():
        kept = {key: value for key, value in values[section].items() if key not in keys}
        values[section] = kept
    return values
