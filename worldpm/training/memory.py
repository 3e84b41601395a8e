"""Bytes a GPU needs, part by part: states after ZeRO's partition, activations of one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worldpm.training.flops import QK_NORM, count_parameters, head_dim

GIB = 2**30
# A gathered layer under ZeRO-3: its weights and gradients in bf16.
BYTES_PER_GATHERED_WEIGHT = 4
# Bytes DeepSpeed's own estimator reserves on the host besides the states.
HOST_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes on one GPU by part, and on one node's host memory where states are offloaded."""

    weights: float
    gradients: float
    optimizer: float
    gathered: float
    activations: float
    host_per_node: float = 0.0

    @property
    def total(self) -> float:
        """All that stands on the GPU at the peak."""
        return self.states + self.activations

    @property
    def states(self) -> float:
        """Weights, gradients and optimizer: what DeepSpeed's estimators count."""
        return self.weights + self.gradients + self.optimizer + self.gathered


def state_memory(
    architecture: Mapping[str, Any],
    *,
    stage: int,
    num_gpus: int,
    gpus_per_node: int = 8,
    precision: str = "bfloat16",
    offload_optimizer: bool = False,
    offload_parameters: bool = False,
    head: str = "linear",
) -> MemoryPlan:
    """Bytes of the model's states per GPU (Rajbhandari et al. 2020, with DeepSpeed's buffers).

    bf16: 2 bytes a weight and gradient, 4 more for the gradient in fp32 at the update, 12 for
    master weights and Adam's moments. fp32: 4, 4 and 8.
    """
    num_params = count_parameters(architecture, head).total
    weight, gradient, fp32_gradient, optimizer = (2, 2, 4, 12)
    if precision == "float32":
        weight, gradient, fp32_gradient, optimizer = (4, 4, 0, 8)
    shared = 1 / num_gpus
    weights = weight * num_params * (shared if stage == 3 else 1)
    if stage == 3:
        # Gradients are reduced into the optimizer's buffers weight by weight.
        gradients = fp32_gradient * num_params * shared or gradient * num_params * shared
    elif stage == 2:
        gradients = (gradient + fp32_gradient) * num_params * shared
    else:
        gradients = gradient * num_params + fp32_gradient * num_params * (shared if stage else 1)
    states = optimizer * num_params * (shared if stage else 1)
    gathered = BYTES_PER_GATHERED_WEIGHT * _largest_module(architecture) if stage == 3 else 0
    host = 0.0
    if offload_optimizer:
        per_weight = 18 if offload_parameters else 16
        host = per_weight * num_params * min(1.0, gpus_per_node / num_gpus) * HOST_FACTOR
        gradients, states = 0.0, 0.0
        if offload_parameters:
            weights = 0.0
    return MemoryPlan(weights, gradients, states, gathered, 0.0, host)


def activation_bytes(
    architecture: Mapping[str, Any],
    *,
    num_tokens: int,
    precision: str = "bfloat16",
    checkpointing: bool = False,
) -> float:
    """Bytes that forward keeps for backward in a row of `num_tokens`.

    A layer keeps 6 D + 3 Q + 5 K + 4 I numbers a token (width, queries, keys, MLP; two of D twice
    as wide, the norms' fp32 inputs under bf16); with checkpointing its input alone, and one layer
    at a time in full. The last layer computes the rewards' rows alone: of the others it keeps 3 D
    and, with the prompts repeated, 3 K.
    """
    width, layers = architecture["hidden_size"], architecture["num_hidden_layers"]
    queries = architecture["num_attention_heads"] * head_dim(architecture)
    keys = architecture["num_key_value_heads"] * head_dim(architecture)
    qk_norm = QK_NORM[architecture["model_type"]] * 2
    size = 4 if precision == "float32" else 2
    wider = 0 if precision == "float32" else 1  # norms' inputs stay in fp32 beside bf16

    def layer_bytes(numbers: int, norm_width: int, normed: int) -> int:
        return (numbers + normed) * size + wider * (norm_width * 4 + normed * 2)

    numbers = 6 * width + 3 * queries + 5 * keys + 4 * architecture["intermediate_size"]
    layer = layer_bytes(numbers, 2 * width, qk_norm * (queries + keys))
    last = layer_bytes(3 * width + 3 * keys, width, qk_norm * keys)
    ends = 2 * width * size
    if checkpointing:
        return num_tokens * (layers * width * size + layer + ends)
    return num_tokens * ((layers - 1) * layer + last + ends)


def _largest_module(architecture: Mapping[str, Any]) -> int:
    # DeepSpeed gathers module by module; the embedding is the largest single one.
    return architecture["vocab_size"] * architecture["hidden_size"]
