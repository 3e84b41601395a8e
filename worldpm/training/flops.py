"""Parameters and floating-point operations of a decoder, from its architecture alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worldpm.errors import ConfigError
from worldpm.training.config import AdapterConfig

REQUIRED_KEYS = (
    "model_type",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
# Which projections carry a bias, and whether queries and keys are normalised per head.
QKV_BIAS = {"qwen2": True, "qwen3": False, "llama": False}
QK_NORM = {"qwen2": False, "qwen3": True, "llama": False}


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """How many weights stand where; the base's output layer is not part of the model."""

    embedding: int
    layers: int
    final_norm: int
    head: int

    @property
    def total(self) -> int:
        """All weights."""
        return self.embedding + self.layers + self.final_norm + self.head

    @property
    def non_embedding(self) -> int:
        """All weights but the token embedding."""
        return self.total - self.embedding

    @property
    def backbone(self) -> int:
        """All weights but the score head."""
        return self.total - self.head


def count_parameters(architecture: Mapping[str, Any], head: str = "linear") -> ParameterCounts:
    """Count the weights of a Qwen2, Qwen3 or Llama backbone with a score head.

    Raises:
        ConfigError: a key is missing or the model type is unknown.
    """
    _check(architecture)
    width, layers = architecture["hidden_size"], architecture["num_hidden_layers"]
    model_type = architecture["model_type"]
    queries = architecture["num_attention_heads"] * head_dim(architecture)
    keys = architecture["num_key_value_heads"] * head_dim(architecture)
    attention = width * (queries + 2 * keys) + queries * width
    attention += (queries + 2 * keys) * QKV_BIAS[model_type]
    attention += 2 * head_dim(architecture) * QK_NORM[model_type]
    mlp = 3 * width * architecture["intermediate_size"]
    return ParameterCounts(
        embedding=architecture["vocab_size"] * width,
        layers=layers * (attention + mlp + 2 * width),
        final_norm=width,
        # The MLP head is the one of the released WorldPM models: width² with bias, then width to 1.
        head=width if head == "linear" else width * width + width + width + 1,
    )


def head_dim(architecture: Mapping[str, Any]) -> int:
    """Width of one attention head."""
    explicit = architecture.get("head_dim")
    return explicit or architecture["hidden_size"] // architecture["num_attention_heads"]


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


def attention_flops_per_pair(architecture: Mapping[str, Any]) -> float:
    """FLOPs of one attended query-key pair, forward and backward, over all layers.

    QKᵀ and its product with V take 2 · head_dim multiply-adds a head; backward doubles forward.
    """
    heads = architecture["num_attention_heads"] * head_dim(architecture)
    return 12.0 * architecture["num_hidden_layers"] * heads


def training_flops(
    architecture: Mapping[str, Any],
    *,
    num_tokens: float,
    num_attended: float,
    adapter: AdapterConfig | None = None,
) -> float:
    """FLOPs of forward and backward: 6 a weight and token, plus the exact causal attention.

    A weight that an adapter leaves frozen takes 4, for no gradient of its own is computed; the
    adapter's weights take 6. The embedding is a look-up and counts nothing (Kaplan et al. 2020,
    section 2.1). That the last layer, but for its keys and values, is computed at the rewards alone
    is not taken off, nor is recomputation added: these are the FLOPs of the model, by which models
    of other trainers are counted too. An MFU of them is too high by less than one layer's share.
    """
    weights = count_parameters(architecture).layers
    per_token = 6.0 * weights
    if adapter is not None:
        per_token = 4.0 * weights + 6.0 * count_adapter(architecture, adapter)
    return per_token * num_tokens + attention_flops_per_pair(architecture) * num_attended


def attention_weight(architecture: Mapping[str, Any]) -> float:
    """What one attended pair costs, in tokens: how micro-batches weigh attention against length."""
    return attention_flops_per_pair(architecture) / (6.0 * count_parameters(architecture).layers)


def _check(architecture: Mapping[str, Any]) -> None:
    missing = [key for key in REQUIRED_KEYS if architecture.get(key) is None]
    if missing:
        raise ConfigError(f"the architecture lacks {missing[0]}")
    if architecture["model_type"] not in QKV_BIAS:
        raise ConfigError(
            f"model_type {architecture['model_type']!r} is not known; known: {', '.join(QKV_BIAS)}"
        )
