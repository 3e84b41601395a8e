"""What the distributed tests run on every rank; called by name through `distributed.run_ranks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from worldpm.config import load_config
from worldpm.training.config import TrainConfig
from worldpm.training.trainer import train

ROOT = Path(__file__).parents[3]
TINY = ROOT / "configs/train/tiny.yaml"
MODEL = ROOT / "configs/model/tiny-1.yaml"


def load(data: str, run: str, overrides: list[str]) -> TrainConfig:
    """The tiny configuration on a data set, as a command line would read it."""
    fixed = [f"data.path={data}", f"output_dir={run}", f"model.architecture={MODEL}"]
    return load_config(TrainConfig, TINY, [*fixed, *overrides])


def train_once(data: str, run: str, overrides: list[str]) -> int:
    """One run, to its end."""
    torch.set_num_threads(1)
    return train(load(data, run, overrides))


def train_all(data: str, runs: dict[str, list[str]]) -> dict[str, Any]:
    """Several runs after each other in one process group; keeps the group between them."""
    from worldpm.training import trainer

    torch.set_num_threads(1)
    trainer.distributed.stop_ranks = lambda: None
    return {run: trainer.train(load(data, run, overrides)) for run, overrides in runs.items()}
