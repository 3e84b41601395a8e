"""Write and read checkpoints: the `portable` layout that other systems load unmodified.

A portable checkpoint is `<Base>ForSequenceClassification` with one label and one bias-free
`score.weight`, its tokenizer with the chat template, and `worldpm.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedConfig

from worldpm.artifacts import atomic_directory, write_json
from worldpm.chat_template import Encoder
from worldpm.errors import CheckpointError
from worldpm.modeling.attention import AttentionBackend
from worldpm.modeling.checkpoint_card import CheckpointCard
from worldpm.modeling.model_config import config_to_json, family_name
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.score_head import head_tensor_shapes
from worldpm.modeling.self_test import can_record, measure_self_test
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
    provenance: Mapping[str, Any] | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
) -> None:
    """Write a portable checkpoint folder, whole or not at all.

    A state (as DeepSpeed gathers it: names `model.*`, `score.weight`) needs the backbone's
    `config`. The head is stored in fp32, the backbone in its own type. The folder is read again
    before it takes its name, and self-test scores are recorded; models too large for that get them
    from `worldpm doctor --record`.

    Raises:
        CheckpointError: the head is not linear, or the tokenizer has more ids than the model.
    """
    config, state = _config_and_state(model_or_state, config)
    if "score.weight" not in state:
        raise CheckpointError(
            "the portable layout has one linear head, but score.weight is missing: "
            "a two-layer head is stored in the layout qwen2-rm"
        )
    state["score.weight"] = state["score.weight"].float()
    card = CheckpointCard.describe(
        encoder,
        layout="portable",
        head_kind="linear",
        score_mean=score_mean,
        score_std=score_std,
        max_tokens=max_tokens,
        provenance=dict(provenance or {}),
    )
    with atomic_directory(Path(folder)) as hidden:
        _write(state, config, encoder, card, hidden, shard_bytes=shard_bytes)


def save_qwen2_rm(
    model_or_state: PreferenceModel | Mapping[str, torch.Tensor],
    encoder: Encoder,
    folder: Path,
    *,
    config: PreTrainedConfig | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    **card_fields: Any,
) -> None:
    """Write a model with a two-layer head in the layout of the released WorldPM models.

    A state needs the backbone's `config`. The head is stored in the backbone's type where that
    loses nothing, else in fp32. `card_fields` are fields of `CheckpointCard`.

    Raises:
        CheckpointError: the head is linear, or the backbone is not Qwen2.
    """
    config, state = _config_and_state(model_or_state, config)
    names = head_tensor_shapes("mlp", config.hidden_size)
    if not names.keys() <= state.keys() or config.model_type != "qwen2":
        head = "linear" if "score.weight" in state else "two-layer"
        raise CheckpointError(
            f"the layout qwen2-rm is a Qwen2 model with a two-layer head, not a "
            f"{config.model_type} model with a {head} head: use portable"
        )
    dtype = state["model.embed_tokens.weight"].dtype
    for name in names:
        state[name] = narrow_if_exact(state[name], dtype)
    card = CheckpointCard.describe(encoder, layout="qwen2-rm", head_kind="mlp", **card_fields)
    with atomic_directory(Path(folder)) as hidden:
        _write(state, config, encoder, card, hidden, shard_bytes=shard_bytes)


def _config_and_state(
    model_or_state: PreferenceModel | Mapping[str, torch.Tensor], config: PreTrainedConfig | None
) -> tuple[PreTrainedConfig, dict[str, torch.Tensor]]:
    if isinstance(model_or_state, PreferenceModel):
        return model_or_state.config, model_or_state.state_dict()
    if config is None:
        raise CheckpointError("saving a state of tensors needs the backbone's configuration")
    return config, dict(model_or_state)


def narrow_if_exact(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The tensor in `dtype` if every value is representable there, else unchanged."""
    narrow = tensor.to(dtype)
    return narrow if torch.equal(narrow.to(tensor.dtype), tensor) else tensor


def _write(
    state: Mapping[str, torch.Tensor],
    config: PreTrainedConfig,
    encoder: Encoder,
    card: CheckpointCard,
    folder: Path,
    *,
    shard_bytes: int,
) -> None:
    check_vocabulary(encoder, config)
    dtype = dtype_name(state["model.embed_tokens.weight"].dtype)
    write_tensors(state, folder, shard_bytes=shard_bytes)
    write_json(folder / "config.json", checkpoint_config(config, card, dtype=dtype))
    encoder.save(folder)
    card.write(folder)
    if can_record(sum(tensor.numel() for tensor in state.values())):
        record_self_test(folder)


def record_self_test(folder: Path) -> CheckpointCard:
    """Load a checkpoint in fp32 and write the scores of the self-test into its card."""
    loaded = load_checkpoint(folder)
    tests = measure_self_test(loaded.model, loaded.encoder, loaded.card.max_tokens)
    card = replace(loaded.card, self_test=tests)
    card.write(folder)
    return card


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


def checkpoint_config(
    config: PreTrainedConfig, card: CheckpointCard, *, dtype: str
) -> dict[str, Any]:
    """`config.json` of a checkpoint in the layout of its card."""
    values = config_to_json(config, dtype=dtype)
    head = "ForSequenceClassification" if card.layout == "portable" else "ForRewardModel"
    values |= {
        "architectures": [f"{family_name(config)}{head}"],
        "model_type": config.model_type,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        # Without it vLLM and the transformers pipeline return sigmoid(score).
        "problem_type": "regression",
        "pad_token_id": card.pad_id,
        "eos_token_id": card.reward_id,
        "bos_token_id": None,
    }
    if card.layout == "portable":
        # OpenRLHF's name for the head; AutoModelForTokenClassification (verl up to 0.7.0, ROLL)
        # would add a bias.
        values |= {"value_head_prefix": "score", "token_classification_bias": False}
    if card.score_mean is not None and card.score_std is not None:
        values |= {"mean": card.score_mean, "std": card.score_std}  # OpenRLHF normalises with them
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
