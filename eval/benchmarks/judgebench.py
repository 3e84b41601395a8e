"""JudgeBench: pairs that differ in objective correctness (Tan et al., ICLR 2025)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import (
    FIRST_BETTER,
    SECOND_BETTER,
    Benchmark,
    Item,
    Protocol,
    ScoredItem,
    Source,
    user,
)
from eval.protocols import WORLDPM, labelled_pairs, per_item
from eval.rows import read_lines
from worldpm.errors import InputError

CATEGORIES = ("mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench")
GPT, CLAUDE = "gpt-4o-2024-05-13", "claude-3-5-sonnet-20240620"


def load(folder: Path) -> Iterator[Item]:
    """Read `dataset=judgebench,response_model=….jsonl`; the subset is the category's prefix."""
    paths = sorted(folder.glob("dataset=judgebench,response_model=*.jsonl"))
    if not paths:
        raise InputError(f"{folder} holds no dataset=judgebench,response_model=….jsonl")
    for path in paths:
        for row in read_lines(path):
            label = row.choice("label", ("A>B", "B>A"))
            source = row.text("source")
            category = next((name for name in CATEGORIES if source.startswith(name)), None)
            if category is None:
                raise row.refuse(f"source {source!r} begins with none of {', '.join(CATEGORIES)}")
            model = row.text("response_model")
            yield Item(
                item_id=row.identifier("pair_id"),
                subset=category if model == GPT else f"{category} ({model})",
                prompt=user(row.text("question")),
                responses=(row.text("response_A"), row.text("response_B")),
                pairs=FIRST_BETTER if label == "A>B" else SECOND_BETTER,
                where=row.where,
                labels={"source": source},
            )


def _decision(one: ScoredItem) -> tuple[float, float]:
    # The authors' code: 'A>B' if score1 > score2 else 'B>A', so a tie says B.
    says_first = one.scores[0] > one.scores[1]
    return float(says_first == (one.item.pairs == FIRST_BETTER)), 1.0


OFFICIAL = Protocol(
    rule="A>B iff score A > score B (a tie says B>A), micro average",
    pairs=labelled_pairs,
    outcomes=per_item(_decision),
)

SOURCE = Source(
    name="judgebench",
    load=load,
    licence="MIT",
    origin="https://github.com/ScalerLab/JudgeBench",
    hub_id="ScalerLab/JudgeBench",
    item_ids="pair_id",
    response_order="response_A, response_B",
    benchmarks=(
        Benchmark(
            name="judgebench",
            kind="objective",
            official=OFFICIAL,
            worldpm=WORLDPM,
            description="Right against wrong answers of GPT-4o: the leaderboard's 350 pairs.",
            subsets=CATEGORIES,
            fidelity="substitute",
            paper_set="PPE MMLU-Pro",
            num_items=350,
            caveats=("The overall number is micro; some reports print the mean of categories.",),
        ),
        Benchmark(
            name="judgebench-claude",
            kind="objective",
            official=OFFICIAL,
            worldpm=WORLDPM,
            description="The 270 pairs of Claude 3.5 Sonnet, which the leaderboard leaves out.",
            subsets=tuple(f"{category} ({CLAUDE})" for category in CATEGORIES),
            num_items=270,
        ),
    ),
)
