"""In the last layer, compute only the rows from which rewards are read.

No later layer looks at the other rows, so the last layer's output projection and feed-forward part
need the reward positions alone: exact, and a fifth of a four-layer model's work. Done by hooks on
the layer, which gradient checkpointing, ZeRO-3 and adapters leave in place.
"""

# T tokens of a row, R rewards

from __future__ import annotations

from threading import get_ident
from typing import Any

import torch
from torch import nn

ROWS_ARGUMENT = "reward_rows"


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
        attention, feed_forward = layer.get_submodule("self_attn"), layer.get_submodule("mlp")
        attention.register_forward_pre_hook(self._enter, with_kwargs=True)
        for module in (attention.get_submodule("o_proj"), feed_forward):
            module.register_forward_pre_hook(self._select)
            module.register_forward_hook(self._scatter)
        feed_forward.register_forward_hook(self._leave)

    def _enter(self, _attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._active.pop(get_ident(), None)
        rows_R = kwargs.get(ROWS_ARGUMENT)
        if rows_R is not None:
            hidden_1TD = args[0] if args else kwargs["hidden_states"]
            self._active[get_ident()] = (rows_R, hidden_1TD.shape[1])

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
