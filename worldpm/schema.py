"""The one record of the project, the response group, in memory and as Arrow tables.

A prompt, its responses, and the preference pairs among them. A StackExchange question, a benchmark
row, a best-of-N list and a roll-out are all this record; data, training, evaluation and serving
speak it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from worldpm.errors import InputError

Role = Literal["system", "user", "assistant"]
Split = Literal["train", "validation", "test"]
TestSetKind = Literal["adversarial", "objective", "subjective", "safety", "in_distribution"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference between two responses of one group, by their indices.

    `margin` is the difference of their scores in the source's own unit (votes on StackExchange,
    1 where the source only orders); `weight` multiplies the pair's loss.
    """

    chosen: int
    rejected: int
    margin: int = 1
    weight: float = 1.0

    def swap(self) -> Pair:
        """The opposite preference."""
        return replace(self, chosen=self.rejected, rejected=self.chosen)


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt, its responses and the preference pairs among them."""

    group_id: str
    prompt: tuple[Message, ...]
    responses: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()

    def __post_init__(self) -> None:
        for pair in self.pairs:
            indices = (pair.chosen, pair.rejected)
            if pair.chosen == pair.rejected or not all(
                0 <= index < len(self.responses) for index in indices
            ):
                raise InputError(
                    f"group {self.group_id}: pair {indices} does not name two of its "
                    f"{len(self.responses)} responses"
                )

    def swap(self) -> Group:
        """The same group with every preference reversed."""
        return replace(self, pairs=tuple(pair.swap() for pair in self.pairs))

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Group:
        """Read a row of `groups/*.parquet` (as a mapping of Python values)."""
        return cls(
            group_id=row["group_id"],
            prompt=parse_messages(row["prompt"], where=f"group {row['group_id']}"),
            responses=tuple(response["content"] for response in row["responses"]),
            pairs=tuple(
                Pair(pair["chosen"], pair["rejected"], pair["margin"], pair["weight"])
                for pair in row["pairs"]
            ),
        )


@dataclass(frozen=True, slots=True)
class GroupScores:
    """Rewards of a group's responses, in their order, and what was cut to fit the context."""

    group_id: str
    scores: tuple[float, ...]
    num_prompt_tokens: int
    num_response_tokens: tuple[int, ...]
    prompt_tokens_cut: int
    response_tokens_cut: tuple[int, ...]


def parse_messages(messages: Sequence[Mapping[str, Any]], *, where: str) -> tuple[Message, ...]:
    """Turn `{role, content}` mappings into messages.

    Raises:
        InputError: a role is unknown or a content is no string; the text begins with `where`.
    """
    parsed: list[Message] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES or not isinstance(content, str):
            raise InputError(
                f"{where}: a message needs a role of {', '.join(ROLES)} and a text as content, "
                f"found role {role!r} and content of type {type(content).__name__}"
            )
        parsed.append(Message(role, content))
    return tuple(parsed)


MESSAGE_TYPE = pa.struct([("role", pa.string()), ("content", pa.string())])
RESPONSE_TYPE = pa.struct(
    [
        ("response_id", pa.int64()),
        ("content", pa.string()),
        ("score", pa.int32()),  # net votes + 1 if accepted: the paper's A.2
        ("net_votes", pa.int32()),
        ("is_accepted", pa.bool_()),
        ("author", pa.string()),
        ("created", pa.timestamp("ms")),
        ("licence", pa.string()),
    ]
)
PAIR_TYPE = pa.struct(
    [
        ("chosen", pa.int32()),
        ("rejected", pa.int32()),
        ("margin", pa.int32()),
        ("weight", pa.float32()),
    ]
)

GROUPS_SCHEMA = pa.schema(
    [
        ("group_id", pa.string()),
        ("site", pa.string()),
        ("question_id", pa.int64()),
        ("prompt", pa.list_(MESSAGE_TYPE)),
        ("responses", pa.list_(RESPONSE_TYPE)),
        ("pairs", pa.list_(PAIR_TYPE)),
        ("split", pa.string()),
    ]
)
"""`groups/*.parquet`; a writer may add columns after these."""

TOKEN_SHARD_SCHEMA = pa.schema(
    [
        ("group_id", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("response_ids", pa.list_(pa.list_(pa.int32()))),  # each ends with the reward token
        ("response_scores", pa.list_(pa.int32())),
        ("pairs", pa.list_(PAIR_TYPE)),
    ]
)
"""`shards/<split>/shard-NNNNN.arrow`: Arrow IPC files whose rows stand in the global order."""

SHARD_INDEX_SCHEMA = pa.schema(
    [
        ("cumulative_pairs", pa.int64()),  # pairs in all groups up to and including this one
        ("cumulative_tokens", pa.int64()),  # prompt once + every response, likewise
    ]
)
"""`shards/<split>/index.arrow`: one row a group, in the global order, over all shards."""

PAIR_SCORES_SCHEMA = pa.schema(
    [
        ("test_set", pa.string()),
        ("item_id", pa.string()),
        ("chosen", pa.int32()),
        ("rejected", pa.int32()),
        ("chosen_score", pa.float64()),
        ("rejected_score", pa.float64()),
        ("chosen_tokens", pa.int32()),
        ("rejected_tokens", pa.int32()),
        ("weight", pa.float64()),
    ]
)
"""`evals/step-NNNNNNNN.parquet` of a run: one row a pair of every test set at that step."""
