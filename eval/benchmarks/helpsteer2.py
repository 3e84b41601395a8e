"""HelpSteer2: two answers a prompt, rated in five dimensions (Wang et al., NeurIPS 2024)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import Benchmark, Item, PairSelection, Source
from eval.protocols import pairwise, worldpm_rule
from eval.rows import Row, read_lines
from worldpm.errors import InputError
from worldpm.schema import Message, Pair

DIMENSIONS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
FILES = ("validation.jsonl.gz", "validation.jsonl")
RATINGS = range(5)
# Turns of a longer conversation stand in one text, parted by this token and the speaker's name.
TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")
ROLES = {"User": "user", "Assistant": "assistant"}


def load(folder: Path) -> Iterator[Item]:
    """Read the validation file: two rows in a row share a prompt and make one item.

    Each row has `prompt`, `response` and the five ratings, 0 to 4.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        raise InputError(f"{folder} holds none of {', '.join(FILES)}")
    rows = list(read_lines(path))
    if len(rows) % 2:
        raise rows[-1].refuse("this row has no partner: two rows in a row share a prompt")
    for index in range(0, len(rows), 2):
        yield _item(rows[index], rows[index + 1], index // 2)


def _item(first: Row, second: Row, index: int) -> Item:
    prompt = first.text("prompt")
    if second.text("prompt") != prompt:
        raise second.refuse("the prompt differs from the row before: two rows share a prompt")
    ratings = {
        dimension: tuple(int(row.choice(dimension, RATINGS)) for row in (first, second))
        for dimension in DIMENSIONS
    }
    return Item(
        item_id=str(index),
        subset="validation",
        prompt=_turns(prompt),
        responses=(first.text("response"), second.text("response")),
        pairs=_preference(*ratings["helpfulness"]),
        where=first.where,
        labels=ratings,
    )


def _turns(prompt: str) -> tuple[Message, ...]:
    first, *rest = TURN.split(prompt)
    turns = [Message("user", first)]
    for name, text in zip(rest[::2], rest[1::2], strict=True):
        if text:  # the conversation ends with the opening of the turn to be written
            turns.append(Message(ROLES[name], text))  # pyright: ignore[reportArgumentType]
    return tuple(turns)


def _preference(first: int, second: int) -> tuple[Pair, ...]:
    if first == second:
        return ()
    margin = abs(first - second)
    return (Pair(0, 1, margin) if first > second else Pair(1, 0, margin),)


def pairs_by(dimension: str) -> PairSelection:
    """The pair by one dimension; none where both ratings are equal."""

    def pairs(item: Item) -> tuple[Pair, ...]:
        return _preference(*item.labels[dimension])

    return pairs


def _benchmark(dimension: str) -> Benchmark:
    is_main = dimension == "helpfulness"
    return Benchmark(
        name="helpsteer2" if is_main else f"helpsteer2-{dimension}",
        kind="subjective",
        official=pairwise(
            tie=0.0, rule=f"higher {dimension}, tie = 0, micro average", pairs=pairs_by(dimension)
        ),
        worldpm=worldpm_rule(pairs_by(dimension), f"; pairs by {dimension}"),
        description=f"Which answer people rate higher in {dimension}.",
        fidelity="as the paper" if is_main else "not in the paper",
        paper_set="HelpSteer2" if is_main else None,
    )


SOURCE = Source(
    name="helpsteer2",
    folders=("helpsteer2", "HelpSteer2"),
    load=load,
    licence="CC-BY-4.0",
    origin="https://huggingface.co/datasets/nvidia/HelpSteer2",
    hub_id="nvidia/HelpSteer2",
    item_ids="index of the prompt in the validation file, from 0",
    response_order="the two rows in their order",
    benchmarks=tuple(_benchmark(dimension) for dimension in DIMENSIONS),
)
