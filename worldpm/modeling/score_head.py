"""The score head: a hidden state becomes one reward, always computed in 32 bits or more."""

# R responses, D width of the backbone

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

HeadKind = Literal["linear", "mlp"]
HeadInit = Literal["normal", "inverse", "inverse_sqrt", "zeros"]


class FloatLinear(nn.Linear):
    """A linear layer that computes in fp32 (fp64 for fp64 input), whatever its weights are.

    The cast stands inside `forward`: outside it would touch a weight that ZeRO-3 has partitioned.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Map `[..., in]` to `[..., out]` in at least fp32."""
        dtype = torch.promote_types(input.dtype, torch.float32)
        bias = None if self.bias is None else self.bias.to(dtype)
        with torch.autocast(input.device.type, enabled=False):
            return functional.linear(input.to(dtype), self.weight.to(dtype), bias)


def build_score_head(kind: HeadKind, width: int) -> nn.Module:
    """An uninitialised head.

    `linear` is one bias-free layer (its tensor is `score.weight`); `mlp` is the two-layer head of
    the released WorldPM models (`score.0.*`, `score.2.*`).
    """
    if kind == "linear":
        return FloatLinear(width, 1, bias=False, dtype=torch.float32)
    return nn.Sequential(
        FloatLinear(width, width, dtype=torch.float32),
        nn.ReLU(),
        FloatLinear(width, 1, dtype=torch.float32),
    )


def head_tensor_shapes(kind: HeadKind, width: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the head's tensors in a checkpoint."""
    if kind == "linear":
        return {"score.weight": (1, width)}
    return {
        "score.0.weight": (width, width),
        "score.0.bias": (width,),
        "score.2.weight": (1, width),
        "score.2.bias": (1,),
    }


def head_kind(head: nn.Module) -> HeadKind:
    """Which kind a head is."""
    return "linear" if isinstance(head, FloatLinear) else "mlp"


@torch.no_grad()
def initialise_score_head(
    head: nn.Module,
    init: HeadInit,
    *,
    initializer_range: float,
    generator: torch.Generator,
) -> None:
    """Draw the weights of every layer of the head; biases become 0.

    The standard deviation for a layer of D inputs is `initializer_range` for `normal` (as
    transformers does), 1/(D + 1) for `inverse` (OpenRLHF), 1/√(D + 1) for `inverse_sqrt`
    (Stiennon et al. 2020). `zeros` makes the first loss exactly ln 2 and gives the backbone no
    gradient in the first step.
    """
    for layer in head.modules():
        if not isinstance(layer, FloatLinear):
            continue
        width = layer.in_features
        deviation = {
            "normal": initializer_range,
            "inverse": 1 / (width + 1),
            "inverse_sqrt": 1 / math.sqrt(width + 1),
            "zeros": 0.0,
        }[init]
        layer.weight.normal_(0.0, deviation, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
