"""The preference model: a decoder without its output layer, and a head that reads one reward.

Rewards of all responses of all groups of a packed row come from one forward pass.
"""

# T tokens of a packed row, S segments, R responses, D width

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from worldpm.errors import CheckpointError
from worldpm.modeling.attention import AttentionBackend, implementation_name
from worldpm.modeling.last_layer import LastLayerRows
from worldpm.modeling.loading import CheckpointLayout, inspect_checkpoint, load_backbone
from worldpm.modeling.model_config import (
    backbone_class,
    config_from_architecture,
    config_from_folder,
)
from worldpm.modeling.packing_plan import PackingPlan
from worldpm.modeling.score_head import (
    HeadInit,
    HeadKind,
    build_score_head,
    head_kind,
    initialise_score_head,
)
from worldpm.modeling.tensor_files import read_tensor

HeadSource = Literal["keep", "new", "reset"]
HeadState = Literal["loaded", "initialised", "reset"]


class PreferenceModel(nn.Module):
    """Backbone `model` and head `score`: the tensor names of a portable checkpoint.

    `head_state` says where the head's weights come from.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        score: nn.Module,
        *,
        attention: AttentionBackend,
        head_state: HeadState,
    ) -> None:
        super().__init__()
        self.model = model
        self.score = score
        self.attention = attention
        self.head_state: HeadState = head_state
        last_layer = self.config.num_hidden_layers - 1
        LastLayerRows().attach(self.model.get_submodule(f"layers.{last_layer}"))
        for name, module in self.named_modules():
            assert not (isinstance(module, nn.Dropout) and module.p > 0), f"{name} drops out"

    @property
    def config(self) -> PreTrainedConfig:
        """The backbone's configuration (DeepSpeed looks for it here too)."""
        return self.model.config

    @property
    def head_kind(self) -> HeadKind:
        """Whether the head is one linear layer or the released two-layer head."""
        return head_kind(self.score)

    @classmethod
    def from_architecture(
        cls,
        architecture: Mapping[str, Any],
        *,
        seed: int,
        attention: AttentionBackend = "segments",
        head: HeadKind = "linear",
        head_init: HeadInit = "inverse",
        dtype: torch.dtype | str = torch.float32,
    ) -> PreferenceModel:
        """Build a model with random weights; equal seeds give equal weights.

        Raises:
            ConfigError: the architecture names an unknown family or key.
        """
        config = config_from_architecture(architecture)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = backbone_class(config)._from_config(
                config,
                dtype=as_dtype(dtype),
                attn_implementation=implementation_name(attention),
            )
        score = _new_head(head, config, head_init, seed)
        return cls(backbone, score, attention=attention, head_state="initialised")

    @classmethod
    def from_pretrained(
        cls,
        folder: Path,
        *,
        attention: AttentionBackend = "segments",
        dtype: torch.dtype | str = torch.float32,
        head: HeadSource = "keep",
        head_init: HeadInit = "inverse",
        seed: int = 0,
        device_map: str | Mapping[str, str] | None = None,
    ) -> PreferenceModel:
        """Load a model folder strictly: every tensor is accounted for.

        `head="keep"` needs a trained head, `"new"` a language model without one, `"reset"` throws
        a trained head away. While a `HfDeepSpeedConfig` for ZeRO-3 is alive the backbone is
        partitioned as it is read. `device_map` spreads the layers, as in transformers.

        Raises:
            CheckpointError: naming the tensor that is missing, unknown or of another shape.
        """
        folder = Path(folder)
        config = config_from_folder(folder)
        layout = inspect_checkpoint(folder, config)
        _check_head(layout, head, folder)
        backbone = load_backbone(
            folder,
            config,
            dtype=as_dtype(dtype),
            attn_implementation=implementation_name(attention),
            device_map=device_map,
        )
        if head == "keep":
            score = _read_head(layout, config).to(list(backbone.parameters())[-1].device)
            return cls(backbone, score, attention=attention, head_state="loaded")
        score = _new_head("linear", config, head_init, seed)
        state: HeadState = "initialised" if head == "new" else "reset"
        return cls(backbone, score, attention=attention, head_state=state)

    @property
    def input_device(self) -> torch.device:
        """Where token ids have to be."""
        return next(self.model.parameters()).device

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        segments: torch.Tensor,
        reward_index: torch.Tensor,
    ) -> torch.Tensor:
        """Rewards fp32 `[R]` of a packed row.

        `input_ids`, `position_ids` int64 `[T]`; `segments` int64 `[S, 4]`, best left on the CPU;
        `reward_index` int64 `[R]`, the position of each response's last token.
        """
        plan = PackingPlan.from_segments(segments, input_ids.shape[0])
        # `packing` reaches every attention layer; without a mask function of the backend's name
        # transformers builds no mask and does not guess sequences from restarting positions.
        hidden_TD = self.model(
            input_ids=input_ids[None],
            position_ids=position_ids[None],
            use_cache=False,
            packing=plan,
            reward_rows=reward_index,
        ).last_hidden_state[0]
        end_RD = hidden_TD[reward_index.to(hidden_TD.device)]
        return self.score(end_RD).squeeze(-1)

    def gradient_checkpointing_enable(self) -> None:
        """Recompute activations layer by layer in the backward pass."""
        self.model.activation_checkpointing_enable({"use_reentrant": False})


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A torch type from itself or its name."""
    return dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)


def _read_head(layout: CheckpointLayout, config: PreTrainedConfig) -> nn.Module:
    assert layout.head is not None
    head = build_score_head(layout.head, config.hidden_size)
    tensors = {
        name.removeprefix("score."): read_tensor(entry, name)
        for name, entry in layout.head_tensors.items()
    }
    head.load_state_dict(tensors, strict=True)
    return head


def _new_head(kind: HeadKind, config: PreTrainedConfig, init: HeadInit, seed: int) -> nn.Module:
    head = build_score_head(kind, config.hidden_size)
    initialise_score_head(
        head,
        init,
        initializer_range=config.initializer_range,
        generator=torch.Generator().manual_seed(seed),
    )
    return head


def _check_head(layout: CheckpointLayout, head: HeadSource, folder: Path) -> None:
    if head == "new" and layout.head is not None:
        raise CheckpointError(
            f"{folder} has a trained head ({', '.join(layout.head_tensors)}): "
            "ask for head 'keep', or 'reset' to throw it away"
        )
    if head in ("keep", "reset") and layout.head is None:
        raise CheckpointError(
            f"{folder} has no score head: the tensor score.weight is missing. A language model "
            "gets an untrained head only when asked: head 'new'"
        )
