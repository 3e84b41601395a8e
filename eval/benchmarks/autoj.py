"""Auto-J: pairwise human judgements over 58 scenarios (Li et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import FIRST_BETTER, SECOND_BETTER, Benchmark, Item, Source, user
from eval.protocols import WORLDPM, pairwise
from eval.rows import read_lines

PAIRS = {0: FIRST_BETTER, 1: SECOND_BETTER, 2: ()}


def load(folder: Path) -> Iterator[Item]:
    """Read `test/testdata_pairwise.jsonl`: label 0 first, 1 second, 2 tie (then no pair)."""
    for index, row in enumerate(read_lines(folder / "test" / "testdata_pairwise.jsonl")):
        yield Item(
            item_id=str(index),
            subset=row.text("scenario"),
            prompt=user(row.text("prompt")),
            responses=(row.text("response 1"), row.text("response 2")),
            pairs=PAIRS[row.choice("label", (0, 1, 2))],
            where=row.where,
        )


SOURCE = Source(
    name="autoj",
    load=load,
    licence="Apache-2.0",
    origin="https://github.com/GAIR-NLP/auto-j",
    item_ids="index of the row, from 0 (rows labelled as ties have an index too)",
    response_order="response 1, response 2",
    benchmarks=(
        Benchmark(
            name="autoj",
            kind="subjective",
            official=pairwise(tie=0.0, rule="agreement on the rows not labelled as ties, tie = 0"),
            worldpm=WORLDPM,
            description="Which of two answers a person prefers, 58 scenarios.",
            fidelity="substitute",
            paper_set="PPE human preference",
            num_items=1019,
            caveats=(
                "The authors' three-way agreement needs a tie threshold that they tune on this "
                "very set; agreement on non-ties is reported instead.",
            ),
        ),
    ),
)
