"""The configuration of a run as DeepSpeed's dictionary, in one pure function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldpm.training.config import DeepSpeedConfig, TrainConfig


def to_deepspeed(
    config: TrainConfig, *, hidden_size: int | None = None, universal: bool = False
) -> dict[str, Any]:
    """Translate the configuration; `deepspeed.extra` is merged over the result, key by key.

    Batch sizes are formal: the trainer marks the accumulation boundary itself and normalises by the
    pairs of the step, so that steps may have any number of micro-batches. `hidden_size` sets the
    bucket sizes of stage 3; `universal` lets a converted checkpoint load on another rank count.
    """
    section = config.deepspeed
    values: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": _zero(section, hidden_size),
        "bf16": {"enabled": config.model.precision == "bfloat16"},
        "gradient_clipping": config.optimizer.max_grad_norm or 0.0,
        # The trainer chooses the optimizer, torch's or DeepSpeed's, and passes the object.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31 - 1,
        "wall_clock_breakdown": False,
        "checkpoint": {"load_universal": universal},
    }
    return _merge(values, section.extra)


def _zero(section: DeepSpeedConfig, hidden_size: int | None) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": section.stage}
    if section.stage >= 1:
        zero["contiguous_gradients"] = True
        zero["overlap_comm"] = section.stage >= 2
    if section.stage == 3 and hidden_size is not None:
        zero["reduce_bucket_size"] = max(hidden_size * hidden_size, 1_000_000)
        zero["stage3_prefetch_bucket_size"] = max(hidden_size * hidden_size * 9 // 10, 100_000)
        zero["stage3_param_persistence_threshold"] = 10 * hidden_size
    if section.offload_optimizer != "none":
        zero["offload_optimizer"] = _offload(section.offload_optimizer, section)
    if section.offload_parameters != "none":
        zero["offload_param"] = _offload(section.offload_parameters, section)
    return zero


def _offload(device: str, section: DeepSpeedConfig) -> dict[str, Any]:
    offload: dict[str, Any] = {"device": device, "pin_memory": device == "cpu"}
    if device == "nvme":
        offload["nvme_path"] = str(section.nvme_path)
    return offload


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged
