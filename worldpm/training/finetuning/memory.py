"""The memory of one GPU in fine-tuning, term by term, from the architecture alone.

Whole models are reckoned by `worldpm.training.memory`; here stands what adapters change: most
weights are frozen, and have neither gradient nor optimizer state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldpm.training.config import AdapterConfig, TrainConfig
from worldpm.training.flops import count_adapter, count_parameters, linear_shapes
from worldpm.training.memory import activation_bytes, state_memory

# NF4 with double quantisation: 4 bits, and 0.127 bits of constants a weight (Dettmers et al. 2023).
NF4_BYTES = (4 + 0.127) / 8
BF16_BYTES = 2
# bf16 and, at the update, fp32; the fp32 master copy and Adam's two moments (`state_memory`).
GRADIENT_BYTES, STATE_BYTES = 2 + 4, 12
# CUDA context, communication buffers, fragmentation: measured on no machine of ours, a round guess.
RESERVE_BYTES = 5e9


def memory_per_gpu(
    config: TrainConfig, architecture: Mapping[str, Any], num_gpus: int
) -> dict[str, float]:
    """Bytes on one of `num_gpus` GPUs by what they hold; the sum is what has to fit."""
    section, stage = config.model, config.deepspeed.stage
    whole = state_memory(
        architecture,
        stage=stage,
        num_gpus=num_gpus,
        precision=section.precision,
        head=section.head.kind,
    )
    terms = {
        "weights": whole.weights,
        "gradients": whole.gradients,
        "optimizer states": whole.optimizer,
    }
    if section.adapter is not None:
        terms = _adapted_states(config, architecture, section.adapter, num_gpus)
    activations = activation_bytes(
        architecture,
        num_tokens=config.batch.token_budget,
        precision=section.precision,
        checkpointing=section.activation_checkpointing,
    )
    return terms | {
        "gathered layers": whole.gathered,
        "activations": activations,
        "reserve": RESERVE_BYTES,
    }


def _adapted_states(
    config: TrainConfig, architecture: Mapping[str, Any], adapter: AdapterConfig, num_gpus: int
) -> dict[str, float]:
    counts = count_parameters(architecture, config.model.head.kind)
    trained = counts.head + count_adapter(architecture, adapter)
    stage = config.deepspeed.stage
    # From stage 1 on a GPU has its part of the states, from 2 of the gradients, from 3 of all.
    states, gradients, weights = (1 / num_gpus if stage >= first else 1.0 for first in (1, 2, 3))
    return {
        "frozen weights": _frozen_bytes(architecture, adapter, counts.backbone) * weights,
        "trained weights": trained * BF16_BYTES * weights,
        "gradients": trained * GRADIENT_BYTES * gradients,
        "optimizer states": trained * STATE_BYTES * states,
    }


def _frozen_bytes(
    architecture: Mapping[str, Any], adapter: AdapterConfig, num_backbone: int
) -> float:
    if adapter.kind == "lora":
        return float(num_backbone * BF16_BYTES)
    shapes = linear_shapes(architecture)
    in_a_layer = sum(shapes[name][0] * shapes[name][1] for name in adapter.target_modules)
    quantised = architecture["num_hidden_layers"] * in_a_layer
    return quantised * NF4_BYTES + (num_backbone - quantised) * BF16_BYTES
