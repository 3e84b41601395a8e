"""Score response groups with a checkpoint: each response once, prompts shared, nothing padded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from worldpm.chat_template import EncodedGroup, Encoder
from worldpm.data.packing import pack_groups
from worldpm.data.token_group import TokenGroup
from worldpm.modeling.attention import AttentionBackend
from worldpm.modeling.checkpoint_card import CheckpointCard
from worldpm.modeling.checkpoint_io import load_checkpoint
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.schema import Group


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Rewards of a group's responses, in their order, and what was cut to fit the context."""

    group_id: str
    scores: tuple[float, ...]
    num_prompt_tokens: int
    num_response_tokens: tuple[int, ...]
    prompt_tokens_cut: int
    response_tokens_cut: tuple[int, ...]


class Scorer:
    """Scores groups; a group's scores do not depend on what else is scored with it."""

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
        self.model = model.to(device).eval()
        self.encoder = encoder
        self.card = card
        self.device = torch.device(device)
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
        attention: AttentionBackend = "segments",
    ) -> Scorer:
        """Load a checkpoint folder of ours.

        `max_tokens` bounds a prompt with one response (default: what the model was trained with),
        `token_budget` the tokens of one forward pass.

        Raises:
            CheckpointError: the folder cannot be loaded exactly.
        """
        loaded = load_checkpoint(folder, attention=attention, dtype=dtype)
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
        """
        encoded = [
            self.encoder.encode(group.prompt, group.responses, self.max_tokens) for group in groups
        ]
        scores = self.score_encoded(encoded)
        return [
            GroupScores(
                group.group_id,
                tuple(group_scores),
                len(ids.prompt_ids),
                tuple(len(response) for response in ids.response_ids),
                ids.prompt_tokens_cut,
                tuple(ids.response_tokens_cut),
            )
            for group, ids, group_scores in zip(groups, encoded, scores, strict=True)
        ]

    def score_encoded(self, encoded: Sequence[EncodedGroup]) -> list[list[float]]:
        """Score groups of token ids."""
        scores: list[list[float]] = [[math.nan] * len(ids.response_ids) for ids in encoded]
        for pieces in _micro_batches(encoded, self.token_budget):
            row = pack_groups([piece.tokens for piece in pieces])
            rewards = iter(
                self._forward(row.input_ids, row.position_ids, row.segments, row.reward_index)
            )
            for piece in pieces:
                for index in piece.responses:
                    scores[piece.group][index] = next(rewards)
        return scores

    def _forward(self, *arrays: object) -> list[float]:
        input_ids, position_ids, segments, reward_index = map(torch.as_tensor, arrays)
        with torch.inference_mode():
            rewards_R = self.model(
                input_ids.to(self.device),
                position_ids.to(self.device),
                segments,
                reward_index.to(self.device),
            )
        return rewards_R.tolist()


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some responses of one group, with its prompt."""

    group: int
    responses: range
    tokens: TokenGroup


def _micro_batches(encoded: Sequence[EncodedGroup], budget: int) -> Iterator[list[_Piece]]:
    pieces = [piece for number, ids in enumerate(encoded) for piece in _cut(number, ids, budget)]
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
