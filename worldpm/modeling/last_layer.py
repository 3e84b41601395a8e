"""In the last layer, compute only the rows from which rewards are read.

No later layer looks at the other rows: all of them give keys and values, and everything else of the
last layer needs the reward positions alone. Exact, and a fifth of a four-layer model's work. Done
by hooks on the layer, which gradient checkpointing, ZeRO-3 and adapters leave in place.
"""

# T tokens of a row, R rewards

from __future__ import annotations

from threading import get_ident
from typing import Any

import torch
from torch import nn

ROWS_ARGUMENT = "reward_rows"
# What works row by row, of a layer of the Qwen and Llama families.
PARTS = ("self_attn.q_proj", "self_attn.o_proj", "post_attention_layernorm", "mlp")


class LastLayerRows:
    """Hooks of one decoder layer; they do nothing unless the layer is called with `reward_rows`."""

    def __init__(self) -> None:
        # Rows and length, by thread: recomputation for the backward may run in autograd's own.
        self._active: dict[int, tuple[torch.Tensor, int]] = {}

    def attach(self, layer: nn.Module) -> None:
        """Hook a decoder layer of the Qwen and Llama families.

        The rows are noted where attention begins, not at the layer's own call: gradient
        checkpointing repeats what is inside the layer only.
        """
        layer.get_submodule("self_attn").register_forward_pre_hook(self._enter, with_kwargs=True)
        for name in PARTS:
            module = layer.get_submodule(name)
            module.register_forward_pre_hook(self._select)
            module.register_forward_hook(self._scatter)
        layer.get_submodule("mlp").register_forward_hook(self._leave)

    def _enter(
        self, _attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        self._active.pop(get_ident(), None)
        rows_R = kwargs.get(ROWS_ARGUMENT)
        if rows_R is None:
            return None
        hidden_1TD = args[0] if args else kwargs["hidden_states"]
        self._active[get_ident()] = (rows_R, hidden_1TD.shape[1])
        return args, {**kwargs, "query_rows": rows_R}

    def _leave(self, _feed_forward: nn.Module, _args: tuple[Any, ...], _output: Any) -> None:
        self._active.pop(get_ident(), None)

    def _select(self, _module: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor] | None:
        if get_ident() not in self._active:
            return None
        rows_R, _ = self._active[get_ident()]
        (hidden_1TD,) = args
        return (hidden_1TD.index_select(1, rows_R.to(hidden_1TD.device)),)

    def _scatter(
        self, _module: nn.Module, _args: tuple[torch.Tensor], output_1RD: torch.Tensor
    ) -> torch.Tensor | None:
        if get_ident() not in self._active:
            return None
        rows_R, num_tokens = self._active[get_ident()]
        empty_1TD = output_1RD.new_zeros(1, num_tokens, output_1RD.shape[2])
        return empty_1TD.index_copy(1, rows_R.to(output_1RD.device), output_1RD)
