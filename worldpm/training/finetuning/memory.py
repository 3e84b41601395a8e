"""The memory of one GPU in fine-tuning, term by term, from the architecture alone.

Terms follow ZeRO's accounting (Rajbhandari et al. 2020): 2 bytes a bf16 weight, 2 a gradient, 12 a
trained weight for fp32 master copy and Adam's moments. Activations are those of recomputation layer
by layer: an input a layer is kept, and one layer's inside is held at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worldpm.training.config import AdapterConfig, TrainConfig
from worldpm.training.flops import count_parameters, head_dim

# NF4 with double quantisation: 4 bits, and 0.127 bits of constants a weight (Dettmers et al. 2023).
NF4_BYTES = (4 + 0.127) / 8
BF16_BYTES = 2
STATE_BYTES = 12
# CUDA context, communication buffers, fragmentation: measured on no machine of ours, a round guess.
RESERVE_BYTES = 5e9


def linear_shapes(architecture: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear layers of one decoder layer, by name."""
    width, inner = architecture["hidden_size"], architecture["intermediate_size"]
    queries = architecture["num_attention_heads"] * head_dim(architecture)
    keys = architecture["num_key_value_heads"] * head_dim(architecture)
    return {
        "q_proj": (width, queries),
        "k_proj": (width, keys),
        "v_proj": (width, keys),
        "o_proj": (queries, width),
        "gate_proj": (width, inner),
        "up_proj": (width, inner),
        "down_proj": (inner, width),
    }


def count_adapter(architecture: Mapping[str, Any], adapter: AdapterConfig) -> int:
    """Weights of the adapters: rank × (inputs + outputs) for every adapted layer."""
    shapes = linear_shapes(architecture)
    adapted = [shapes[name] for name in adapter.target_modules if name in shapes]
    return architecture["num_hidden_layers"] * adapter.rank * sum(map(sum, adapted))


def memory_per_gpu(
    config: TrainConfig, architecture: Mapping[str, Any], num_gpus: int
) -> dict[str, float]:
    """Bytes on one of `num_gpus` GPUs by what they hold; the sum is what has to fit."""
    counts = count_parameters(architecture, config.model.head.kind)
    adapter, stage = config.model.adapter, config.deepspeed.stage
    trained = counts.total
    frozen_bytes = 0.0
    if adapter is not None:
        trained = counts.head + count_adapter(architecture, adapter)
        frozen_bytes = _frozen_bytes(architecture, adapter, counts.backbone)
    share = {name: 1 / num_gpus if stage >= first else 1.0 for name, first in ZERO_STAGES.items()}
    tokens, width = config.batch.token_budget, architecture["hidden_size"]
    layers = architecture["num_hidden_layers"]
    kept = layers if config.model.activation_checkpointing else 0
    inside = 6 * width + 3 * architecture["intermediate_size"]
    layer_copies = 1 if config.model.activation_checkpointing else layers
    gathered = 2 * counts.layers / layers * BF16_BYTES if stage == 3 else 0.0
    return {
        "frozen weights": frozen_bytes * share["weights"],
        "trained weights": trained * BF16_BYTES * share["weights"],
        "gradients": trained * BF16_BYTES * share["gradients"],
        "optimizer states": trained * STATE_BYTES * share["states"],
        "two gathered layers": gathered,
        # A layer's inside and its gradient.
        "activations": BF16_BYTES * tokens * (kept * width + 2 * layer_copies * inside),
        "reserve": RESERVE_BYTES,
    }


# From which stage on ZeRO gives each GPU a part only.
ZERO_STAGES = {"states": 1, "gradients": 2, "weights": 3}


def _frozen_bytes(
    architecture: Mapping[str, Any], adapter: AdapterConfig, num_backbone: int
) -> float:
    if adapter.kind == "lora":
        return float(num_backbone * BF16_BYTES)
    shapes = linear_shapes(architecture)
    in_a_layer = sum(shapes[name][0] * shapes[name][1] for name in adapter.target_modules)
    quantised = architecture["num_hidden_layers"] * in_a_layer
    return quantised * NF4_BYTES + (num_backbone - quantised) * BF16_BYTES
