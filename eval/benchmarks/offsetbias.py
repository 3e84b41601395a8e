"""OffsetBias: pairs made to mislead judges (Park et al., EMNLP 2024 Findings)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import FIRST_BETTER, SECOND_BETTER, Benchmark, Item, Source, user
from eval.protocols import STRICT, WORLDPM
from eval.rows import read_folder


def load(folder: Path) -> Iterator[Item]:
    """Read the Hub's `train.jsonl`: `label` 1 or 2 names the better output."""
    for index, row in enumerate(read_folder(folder)):
        label = row.choice("label", (1, 2))
        yield Item(
            item_id=str(index),
            subset="offsetbias",
            prompt=user(row.text("instruction")),
            responses=(row.text("output_1"), row.text("output_2")),
            pairs=FIRST_BETTER if label == 1 else SECOND_BETTER,
            where=row.where,
        )


SOURCE = Source(
    name="offsetbias",
    load=load,
    licence="BSD-3-Clause",
    origin="https://github.com/ncsoft/offsetbias",
    hub_id="NCSOFT/offsetbias",
    item_ids="index of the row, from 0",
    response_order="output_1, output_2",
    benchmarks=(
        Benchmark(
            name="offsetbias",
            kind="adversarial",
            official=STRICT,
            worldpm=WORLDPM,
            description="8.5 thousand pairs whose worse answer looks better.",
            fidelity="as the paper",
            paper_set="OffsetBias",
            caveats=(
                "Published as a training set; the digits of the paper's tables need 2,749 pairs "
                "or more, so this set (or a part of it) is what the paper must have used.",
            ),
        ),
    ),
)
