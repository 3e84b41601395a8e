"""What the fine-tuning tests run in a process of their own, to be killed there."""

from __future__ import annotations

import torch

from tests.worldpm.training.finetuning.running import TINY
from worldpm.config import load_config
from worldpm.training.finetuning.config import FinetuneConfig
from worldpm.training.finetuning.run import finetune


def finetune_once(settings: list[str]) -> int:
    """One run, to its end; returns its exit code."""
    torch.set_num_threads(1)
    return finetune(load_config(FinetuneConfig, TINY, settings))
