"""PandaLM test set: three people compare answers to instructions (Wang et al., ICLR 2024)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import FIRST_BETTER, SECOND_BETTER, Benchmark, Item, Source, user
from eval.protocols import WORLDPM, pairwise
from eval.rows import Row, read_array

PAIRS = {0: (), 1: FIRST_BETTER, 2: SECOND_BETTER}
VOTES = ("annotator1", "annotator2", "annotator3")


def load(folder: Path) -> Iterator[Item]:
    """Read `testset-v1.json`; the majority of three votes decides (0 is a tie: no pair)."""
    for row in read_array(folder / "testset-v1.json"):
        context = row.text("input")
        instruction = row.text("instruction")
        votes = Counter(row.choice(vote, (0, 1, 2)) for vote in VOTES)
        winner, count = votes.most_common(1)[0]
        yield Item(
            item_id=row.identifier("idx"),
            subset=row.text("motivation_app"),
            prompt=user(f"{instruction}\n\n{context}" if context else instruction),
            responses=(_response(row, "response1"), _response(row, "response2")),
            pairs=PAIRS[winner] if count > 1 else (),
            where=row.where,
        )


def _response(row: Row, key: str) -> str:
    # Six rows hold the JSON value true where the model wrote "True".
    value = row.get(key)
    return str(value) if isinstance(value, bool) else row.text(key)


SOURCE = Source(
    name="pandalm",
    load=load,
    licence="Apache-2.0",
    origin="https://github.com/WeOpenML/PandaLM",
    item_ids="idx",
    response_order="response1, response2",
    benchmarks=(
        Benchmark(
            name="pandalm",
            kind="subjective",
            official=pairwise(tie=0.0, rule="agreement with the majority's non-ties, tie = 0"),
            worldpm=WORLDPM,
            description="Which of two small models' answers people prefer.",
            fidelity="substitute",
            paper_set="HelpSteer2",
            num_items=894,
        ),
    ),
)
