"""Score response groups with a checkpoint: each response once, prompts shared, nothing padded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from worldpm.chat_template import EncodedGroup, Encoder
from worldpm.data.packing import pack_groups
from worldpm.data.token_group import TokenGroup
from worldpm.errors import CheckpointError, ConfigError
from worldpm.modeling.attention import AttentionBackend, default_backend
from worldpm.modeling.checkpoint_card import CheckpointCard
from worldpm.modeling.checkpoint_io import load_checkpoint
from worldpm.modeling.preference_model import PreferenceModel, as_dtype
from worldpm.schema import Group, GroupScores

# The device name that spreads a model over all GPUs.
SHARDED = "auto"


class GroupScorer(Protocol):
    """Whatever turns groups into scores: a model in this process, or one behind a server."""

    def score(self, groups: Sequence[Group]) -> list[GroupScores]:
        """Score every response of every group, in order."""
        ...


class Scorer:
    """Scores groups in this process; a group's scores do not depend on its company."""

    def __init__(
        self,
        model: PreferenceModel,
        encoder: Encoder,
        card: CheckpointCard,
        *,
        device: str = "cpu",
        max_tokens: int | None = None,
        token_budget: int = 16384,
    ) -> None:
        # A model spread over several devices stays where it is; its inputs go to the first.
        self.model = model.eval() if device == SHARDED else model.to(device).eval()
        self.device = model.input_device
        self.encoder = encoder
        self.card = card
        self.max_tokens = max_tokens or card.max_tokens
        self.token_budget = token_budget

    @classmethod
    def from_checkpoint(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: str = "float32",
        max_tokens: int | None = None,
        token_budget: int = 16384,
        attention: AttentionBackend | None = None,
    ) -> Scorer:
        """Load a checkpoint folder of ours.

        `device` is `cpu`, `cuda`, `cuda:1`, …, or `auto`, which spreads the layers over all GPUs.
        `max_tokens` bounds a prompt with one response (default: what the model was trained with),
        `token_budget` the tokens of one forward pass. `attention` is chosen for device and dtype.

        Raises:
            CheckpointError: the folder cannot be loaded exactly.
            ConfigError: the device is not there.
        """
        check_device(device)
        loaded = load_checkpoint(
            Path(folder),
            attention=attention or default_backend(device, as_dtype(dtype)),
            dtype=dtype,
            device_map=SHARDED if device == SHARDED else None,
        )
        return cls(
            loaded.model,
            loaded.encoder,
            loaded.card,
            device=device,
            max_tokens=max_tokens,
            token_budget=token_budget,
        )

    @property
    def score_mean(self) -> float | None:
        """Mean score of held-out responses, where the checkpoint records it."""
        return self.card.score_mean

    @property
    def score_std(self) -> float | None:
        """Standard deviation of the scores of held-out responses."""
        return self.card.score_std

    def score(self, groups: Sequence[Group]) -> list[GroupScores]:
        """Score every response of every group, in order.

        Raises:
            InputError: a group has no prompt.
            CheckpointError: a score is no finite number.
        """
        encoded = [
            self.encoder.encode(group.prompt, group.responses, self.max_tokens) for group in groups
        ]
        scores = self.score_encoded(encoded)
        return join_scores(groups, encoded, scores)

    def score_encoded(self, encoded: Sequence[EncodedGroup]) -> list[list[float]]:
        """Score groups of token ids; `[group][response]`."""
        scores: list[list[float]] = [[math.nan] * len(ids.response_ids) for ids in encoded]
        for pieces in _micro_batches(encoded, self.token_budget):
            rewards = iter(self._score_row([piece.tokens for piece in pieces]))
            for piece in pieces:
                for index in piece.responses:
                    scores[piece.group][index] = next(rewards)
        return scores

    def _score_row(self, groups: Sequence[TokenGroup]) -> list[float]:
        row = pack_groups(groups)
        with torch.inference_mode():
            rewards_R = self.model(
                self._to_device(row.input_ids),
                self._to_device(row.position_ids),
                torch.from_numpy(row.segments),
                self._to_device(row.reward_index),
            )
        if not torch.isfinite(rewards_R).all():
            raise CheckpointError(
                "the model gives a score that is no finite number: its weights are damaged, or "
                "too large for this dtype; try float32"
            )
        return rewards_R.tolist()

    def _to_device(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


def join_scores(
    groups: Sequence[Group], encoded: Sequence[EncodedGroup], scores: Sequence[Sequence[float]]
) -> list[GroupScores]:
    """Put groups' scores beside the lengths that were scored."""
    return [
        GroupScores(
            group.group_id,
            tuple(row),
            len(ids.prompt_ids),
            tuple(len(response) for response in ids.response_ids),
            ids.prompt_tokens_cut,
            tuple(ids.response_tokens_cut),
        )
        for group, ids, row in zip(groups, encoded, scores, strict=True)
    ]


def check_device(device: str) -> None:
    """Refuse a device that is not there, before a large model is read.

    Raises:
        ConfigError: naming the device.
    """
    if device == "cpu":
        return
    if device.split(":", maxsplit=1)[0] not in ("cuda", SHARDED):
        raise ConfigError(f"device is {device!r}: known are cpu, cuda, cuda:N and auto")
    if not torch.cuda.is_available():
        raise ConfigError(f"device is {device!r}, but torch finds no GPU here: use cpu")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some responses of one group, with its prompt."""

    group: int
    responses: range
    tokens: TokenGroup


def _micro_batches(encoded: Sequence[EncodedGroup], budget: int) -> Iterator[list[_Piece]]:
    pieces = [piece for number, ids in enumerate(encoded) for piece in _cut(number, ids, budget)]
    # Longest first: what does not fit in memory fails at once, and the last row is not a long one.
    pieces.sort(key=lambda piece: -piece.tokens.num_tokens)
    batch: list[_Piece] = []
    total = 0
    for piece in pieces:
        if batch and total + piece.tokens.num_tokens > budget:
            yield batch
            batch, total = [], 0
        batch.append(piece)
        total += piece.tokens.num_tokens
    if batch:
        yield batch


def _cut(number: int, ids: EncodedGroup, budget: int) -> Iterator[_Piece]:
    # A group over the budget is scored in several rows that repeat its prompt.
    start, total = 0, len(ids.prompt_ids)
    for index, response in enumerate(ids.response_ids):
        if index > start and total + len(response) > budget:
            yield _piece(number, ids, range(start, index))
            start, total = index, len(ids.prompt_ids)
        total += len(response)
    if start < len(ids.response_ids):
        yield _piece(number, ids, range(start, len(ids.response_ids)))


def _piece(number: int, ids: EncodedGroup, responses: range) -> _Piece:
    chosen = [ids.response_ids[index] for index in responses]
    return _Piece(number, responses, TokenGroup.from_ids(str(number), ids.prompt_ids, chosen))
