"""Judgement bias: answers with two or three planted factual errors (Chen et al., EMNLP 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import FIRST_BETTER, Benchmark, Item, Source, user
from eval.protocols import STRICT, WORLDPM
from eval.rows import Row, read_lines

SUFFIX = "-factual_error"


def load(folder: Path) -> Iterator[Item]:
    """Pair each perturbed answer of `factual_error.json` with the raw answer it was made from.

    The raw answer stands in `raw.json` under the question's id; the file's own `raw_answer` is
    the perturbing model's working, not an answer.
    """
    raw = {row.identifier("question_id"): row for row in read_lines(folder / "raw.json")}
    for row in read_lines(folder / "factual_error.json"):
        item_id = row.identifier("question_id")
        original = raw.get(item_id.removesuffix(SUFFIX))
        if original is None:
            raise row.refuse(f"{folder / 'raw.json'} has no question {item_id!r}")
        slot = _perturbed_slot(row)
        yield Item(
            item_id=item_id,
            subset="factual_error",
            prompt=user(row.text("prompt")),
            responses=(
                original.part("answers").part(slot).text("answer"),
                row.part("answers").part(slot).text("answer"),
            ),
            pairs=FIRST_BETTER,
            where=row.where,
        )


def _perturbed_slot(row: Row) -> str:
    answers = row.part("answers")
    slots = [slot for slot in ("answer1", "answer2") if answers.part(slot).text("perturb")]
    if len(slots) != 1:
        raise row.refuse(f"{len(slots)} answers are perturbed, expected one")
    return slots[0]


SOURCE = Source(
    name="judgement-bias",
    load=load,
    licence="Apache-2.0",
    origin="https://github.com/FreedomIntelligence/Humans_LLMs_Judgement_Bias",
    item_ids="question_id: Applying_0-factual_error",
    response_order="raw answer, perturbed answer",
    benchmarks=(
        Benchmark(
            name="judgement-bias",
            kind="adversarial",
            official=STRICT,
            worldpm=WORLDPM,
            description="An answer against itself with planted factual errors.",
            num_items=142,
        ),
    ),
)
