"""HH-RLHF: helpful and harmless dialogue preferences (Bai et al., 2022)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import FIRST_BETTER, SECOND_BETTER, Benchmark, Item, Source
from eval.protocols import STRICT, WORLDPM
from eval.rows import Row, read_lines
from worldpm.errors import InputError
from worldpm.schema import Message

HARMLESS_FILE = Path("harmless-base") / "test.jsonl.gz"
HELPFUL_FILE = Path("helpful_subset_rmgallery.jsonl")
TURN = re.compile(r"\n\n(Human|Assistant): ?")
ROLES = {"Human": "user", "Assistant": "assistant"}


def load(folder: Path) -> Iterator[Item]:
    """Read the authors' harmless transcripts and the helpful subset in RM-Gallery's form."""
    if not (folder / HARMLESS_FILE).is_file() and not (folder / HELPFUL_FILE).is_file():
        raise InputError(f"{folder} holds neither {HARMLESS_FILE} nor {HELPFUL_FILE}")
    if (folder / HARMLESS_FILE).is_file():
        for index, row in enumerate(read_lines(folder / HARMLESS_FILE)):
            yield _harmless(row, index)
    if (folder / HELPFUL_FILE).is_file():
        yield from (_helpful(row) for row in read_lines(folder / HELPFUL_FILE))


def _harmless(row: Row, index: int) -> Item:
    prompt, chosen, rejected = split_transcripts(row)
    return Item(
        item_id=f"harmless/{index}",
        subset="harmless",
        prompt=prompt,
        responses=(chosen, rejected),
        pairs=FIRST_BETTER,
        where=row.where,
    )


def split_transcripts(row: Row) -> tuple[tuple[Message, ...], str, str]:
    """The turns that both transcripts share, and what each says after them.

    The two nearly always differ in the last assistant turn alone. Where they part earlier (five
    test rows), the rest of each transcript is its response, later turns included as text.
    """
    chosen, rejected = row.text("chosen"), row.text("rejected")
    chosen_starts = _assistant_starts(row, chosen)
    rejected_starts = set(_assistant_starts(row, rejected))
    shared = [
        start
        for start in chosen_starts
        if start in rejected_starts and chosen[:start] == rejected[:start]
    ]
    if not shared:
        raise row.refuse("chosen and rejected share no turn of a person")
    start = shared[-1]
    return _turns(row, chosen[:start]), _reply(chosen, start), _reply(rejected, start)


def _assistant_starts(row: Row, transcript: str) -> list[int]:
    starts = [turn.start() for turn in TURN.finditer(transcript) if turn[1] == "Assistant"]
    if not transcript.startswith("\n\nHuman:") or not starts:
        raise row.refuse("a transcript must begin with a Human turn and hold an Assistant turn")
    return starts


def _reply(transcript: str, start: int) -> str:
    opening = TURN.match(transcript, start)
    assert opening is not None
    return transcript[opening.end() :]


def _turns(row: Row, transcript: str) -> tuple[Message, ...]:
    pieces = TURN.split(transcript)
    names, texts = pieces[1::2], pieces[2::2]
    return tuple(
        Message(ROLES[name], text)  # pyright: ignore[reportArgumentType]  two roles, both known
        for name, text in zip(names, texts, strict=True)
    )


def _helpful(row: Row) -> Item:
    sample = row.part("evaluation_sample")
    outputs = sample.get("outputs")
    if not isinstance(outputs, list) or len(outputs) != 2:
        raise row.refuse("evaluation_sample.outputs must hold two responses")
    responses = [Row(output, row.where) for output in outputs]
    labels = tuple(one.choice("content_label", ("chosen", "rejected")) for one in responses)
    if labels[0] == labels[1]:
        raise row.refuse(f"both responses are {labels[0]}")
    return Item(
        item_id=f"helpful/{row.identifier('unique_id')}",
        subset="helpful",
        prompt=sample.messages("input"),
        responses=(responses[0].text("content"), responses[1].text("content")),
        pairs=FIRST_BETTER if labels[0] == "chosen" else SECOND_BETTER,
        where=row.where,
    )


SOURCE = Source(
    name="hh-rlhf",
    load=load,
    licence="MIT",
    origin="https://github.com/anthropics/hh-rlhf",
    hub_id="Anthropic/hh-rlhf",
    item_ids="harmless/<index of the row, from 0>; helpful/<unique_id>",
    response_order="chosen, rejected (harmless); outputs in their order (helpful)",
    benchmarks=(
        Benchmark(
            name="hh-rlhf-helpful",
            kind="subjective",
            official=STRICT,
            worldpm=WORLDPM,
            description="Which answer helps more, in a dialogue.",
            subsets=("helpful",),
        ),
        Benchmark(
            name="hh-rlhf-harmless",
            kind="subjective",
            official=STRICT,
            worldpm=WORLDPM,
            description="Which answer harms less, in a dialogue.",
            subsets=("harmless",),
            num_items=2312,
        ),
        Benchmark(
            name="hh-rlhf",
            kind="subjective",
            official=STRICT,
            worldpm=WORLDPM,
            description="Helpful and harmless together.",
        ),
    ),
)
