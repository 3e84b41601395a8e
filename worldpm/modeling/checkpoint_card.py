"""`worldpm.json` of a checkpoint: what its scores mean and how to check that they are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from worldpm.artifacts import read_json, write_json
from worldpm.chat_template import Encoder
from worldpm.errors import CheckpointError
from worldpm.schema import Message, parse_messages

CARD_FILE = "worldpm.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A conversation and the score it must have."""

    prompt: tuple[Message, ...]
    response: str
    score: float


@dataclass(frozen=True, slots=True)
class CheckpointCard:
    """The content of `worldpm.json`.

    `score_mean` and `score_std` describe the scores of held-out responses, where they are known.
    `max_tokens` is the longest conversation seen in training; `provenance` is for people.
    `self_test` holds fp32 scores measured when the checkpoint was written, `published_scores` those
    that a released model's authors print.
    """

    layout: str
    head_kind: str
    template_name: str
    template_hash: str
    encoder_hash: str
    reward_token: str
    reward_id: int
    pad_id: int
    max_tokens: int | None = None
    score_mean: float | None = None
    score_std: float | None = None
    self_test: tuple[SelfTest, ...] = ()
    published_scores: tuple[SelfTest, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @classmethod
    def describe(
        cls, encoder: Encoder, *, layout: str, head_kind: str, **rest: Any
    ) -> CheckpointCard:
        """A card for an encoder's checkpoint; `rest` are the other fields."""
        return cls(
            layout=layout,
            head_kind=head_kind,
            template_name=encoder.template.name,
            template_hash=encoder.template.hash,
            encoder_hash=encoder.hash,
            reward_token=encoder.template.reward_token,
            reward_id=encoder.reward_id,
            pad_id=encoder.pad_id,
            **rest,
        )

    def write(self, folder: Path) -> None:
        """Write `worldpm.json`, atomically."""
        write_json(folder / CARD_FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> CheckpointCard:
        """Read a folder's card.

        Raises:
            CheckpointError: there is none, or it is of another version.
        """
        path = folder / CARD_FILE
        if not path.is_file():
            raise CheckpointError(
                f"{folder} holds no {CARD_FILE}: bring it into our layout with `worldpm convert`"
            )
        values = read_json(path)
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: format version {version}, this program reads {FORMAT_VERSION}"
            )
        for key in ("self_test", "published_scores"):
            values[key] = _parse_self_tests(values.get(key, ()), where=str(path))
        try:
            return cls(**values)
        except TypeError as exc:
            raise CheckpointError(f"{path} is no checkpoint card of this version: {exc}") from exc

    def check_encoder(self, encoder: Encoder, folder: Path) -> None:
        """Refuse a tokenizer or template other than the one the model was trained with.

        Raises:
            CheckpointError: naming what differs.
        """
        if encoder.template.hash != self.template_hash:
            raise CheckpointError(
                f"{folder}: its chat template is not the one it was trained with "
                f"(hash {encoder.template.hash[:12]}, recorded {self.template_hash[:12]})"
            )
        if encoder.hash != self.encoder_hash:
            raise CheckpointError(
                f"{folder}: its tokenizer.json is not the one it was trained with "
                f"(hash {encoder.hash[:12]}, recorded {self.encoder_hash[:12]})"
            )


def _parse_self_tests(values: Sequence[Mapping[str, Any]], where: str) -> tuple[SelfTest, ...]:
    return tuple(
        SelfTest(parse_messages(test["prompt"], where=where), test["response"], test["score"])
        for test in values
    )
