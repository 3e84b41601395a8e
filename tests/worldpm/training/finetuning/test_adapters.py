"""Adapters: an update that begins at zero, a head that is trained whole, a merge that loses none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer

from worldpm.errors import CheckpointError, ConfigError
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.tensor_files import read_tensor, read_tensor_index
from worldpm.training.adapters import (
    add_adapter,
    merge_adapter,
    refuse_quantisation_without_gpu,
)
from worldpm.training.config import AdapterConfig, TrainConfig
from worldpm.training.deepspeed_config import to_deepspeed
from worldpm.training.engine import parameter_groups

from .running import measured_scores, run_finetune, scores_of  # noqa: TID252
