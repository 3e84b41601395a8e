"""The random generators of a rank, written beside its states and put back when a run goes on.

A step of this trainer draws nothing: the order is a keyed hash and dropout is refused. What stands
here keeps a resume exact for anything that does draw, such as a kernel or a custom model.
"""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from worldpm.artifacts import read_json, write_json


def random_state_path(states: Path, rank: int) -> Path:
    """The file of one rank in a checkpoint's folder of states."""
    return states / f"random-rank-{rank:05d}.json"


def save_random_state(states: Path, rank: int) -> None:
    """Write the generators of Python, numpy, torch and this rank's GPU."""
    write_json(random_state_path(states, rank), capture_random_state())


def load_random_state(states: Path, rank: int) -> None:
    """Put the generators back; a rank that the checkpoint had not keeps its own."""
    path = random_state_path(states, rank)
    if path.exists():
        restore_random_state(read_json(path))


def capture_random_state() -> dict[str, Any]:
    """The generators' states as JSON values."""
    numpy_state = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        "numpy": {
            **numpy_state,
            "state": {
                "key": numpy_state["state"]["key"].tolist(),
                "pos": int(numpy_state["state"]["pos"]),
            },
        },
        "torch": _to_text(torch.get_rng_state()),
        "cuda": _to_text(torch.cuda.get_rng_state()) if torch.cuda.is_available() else None,
    }


def restore_random_state(values: dict[str, Any]) -> None:
    """Set all generators to captured states."""
    version, numbers, next_gauss = values["python"]
    random.setstate((version, tuple(numbers), next_gauss))
    key = np.asarray(values["numpy"]["state"]["key"], np.uint32)
    np.random.set_state({**values["numpy"], "state": {**values["numpy"]["state"], "key": key}})
    torch.set_rng_state(_from_text(values["torch"]))
    if values["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(_from_text(values["cuda"]))


def _to_text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _from_text(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
