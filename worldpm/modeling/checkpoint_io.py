"""Write and read checkpoints: the `portable` layout that other systems load unmodified.

A portable checkpoint is `<Base>ForSequenceClassification` with one label and one bias-free
`score.weight`, its tokenizer with the chat template, and `worldpm.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig

from worldpm.artifacts import atomic_directory, write_json
from worldpm.chat_template import Encoder
from worldpm.errors import CheckpointError
from worldpm.modeling.attention import AttentionBackend
from worldpm.modeling.checkpoint_card import CheckpointCard, SelfTest
from worldpm.modeling.model_config import config_to_json, family_name
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.tensor_files import DEFAULT_SHARD_BYTES, write_tensors

Layout = Literal["portable", "qwen2-rm"]


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A model with the encoder and the card it was stored with."""

    model: PreferenceModel
    encoder: Encoder
    card: CheckpointCard


def save_portable(
    model_or_state: PreferenceModel | Mapping[str, torch.Tensor],
    encoder: Encoder,
    folder: Path,
    *,
    config: PreTrainedConfig | None = None,
    score_mean: float | None = None,
    score_std: float | None = None,
    max_tokens: int | None = None,
    self_test: tuple[SelfTest, ...] = (),
    provenance: Mapping[str, Any] | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Write a checkpoint folder, whole or not at all.

    A state (as DeepSpeed gathers it: names `model.*`, `score.weight`) needs the backbone's
    `config`. The head is stored in fp32, the backbone in its own type.

    Raises:
        CheckpointError: the head is not linear, or the tokenizer has more ids than the model.
    """
    if isinstance(model_or_state, PreferenceModel):
        config, state = model_or_state.config, model_or_state.state_dict()
    else:
        state = dict(model_or_state)
    if config is None:
        raise CheckpointError("saving a state of tensors needs the backbone's configuration")
    if "score.weight" not in state:
        raise CheckpointError(
            "the portable layout has one linear head, but score.weight is missing: "
            "a two-layer head is stored in the layout qwen2-rm"
        )
    check_vocabulary(encoder, config)
    state["score.weight"] = state["score.weight"].float()
    dtype = dtype_name(state["model.embed_tokens.weight"].dtype)
    card = CheckpointCard.describe(
        encoder,
        layout="portable",
        head_kind="linear",
        score_mean=score_mean,
        score_std=score_std,
        max_tokens=max_tokens,
        self_test=self_test,
        provenance=dict(provenance or {}),
    )
    with atomic_directory(Path(folder)) as hidden:
        write_tensors(state, hidden, shard_bytes=shard_bytes)
        write_json(hidden / "config.json", portable_config(config, card, dtype=dtype))
        encoder.save(hidden)
        card.write(hidden)


def load_checkpoint(
    folder: Path,
    *,
    attention: AttentionBackend = "segments",
    dtype: torch.dtype | str = torch.float32,
    device_map: str | Mapping[str, str] | None = None,
) -> LoadedCheckpoint:
    """Load one of our checkpoints: strict tensors, and exactly the template it was trained with.

    `device_map` spreads the backbone's layers over devices, as in transformers.

    Raises:
        CheckpointError: a tensor, the tokenizer or the template is not as recorded.
    """
    folder = Path(folder)
    card = CheckpointCard.read(folder)
    encoder = Encoder.from_folder(folder)
    card.check_encoder(encoder, folder)
    model = PreferenceModel.from_pretrained(
        folder, attention=attention, dtype=dtype, device_map=device_map
    )
    if model.head_kind != card.head_kind:
        raise CheckpointError(f"{folder}: worldpm.json announces a {card.head_kind} head")
    return LoadedCheckpoint(model.eval(), encoder, card)


def portable_config(
    config: PreTrainedConfig, card: CheckpointCard, *, dtype: str
) -> dict[str, Any]:
    """`config.json` of a portable checkpoint."""
    values = config_to_json(config, dtype=dtype)
    values |= {
        "architectures": [f"{family_name(config)}ForSequenceClassification"],
        "model_type": config.model_type,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        # Without it vLLM and the transformers pipeline return sigmoid(score).
        "problem_type": "regression",
        "pad_token_id": card.pad_id,
        "eos_token_id": card.reward_id,
        "bos_token_id": None,
        # OpenRLHF's names for the head and the normalisation of rewards.
        "value_head_prefix": "score",
        # AutoModelForTokenClassification (verl up to 0.7.0, ROLL) would add a bias.
        "token_classification_bias": False,
    }
    if card.score_mean is not None and card.score_std is not None:
        values |= {"mean": card.score_mean, "std": card.score_std}
    return values


def check_vocabulary(encoder: Encoder, config: PreTrainedConfig) -> None:
    """Refuse a tokenizer whose ids the embedding does not have.

    Raises:
        CheckpointError: naming both sizes.
    """
    size = encoder.tokenizer.get_vocab_size(with_added_tokens=True)
    if size > config.vocab_size or max(encoder.reward_id, encoder.pad_id) >= config.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {size} tokens, the model's embedding only {config.vocab_size} rows"
        )


def dtype_name(dtype: torch.dtype) -> str:
    """The name by which configurations call a torch type."""
    return str(dtype).removeprefix("torch.")
