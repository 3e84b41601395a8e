"""The generator's own held-out sets: planted adversarial, objective and subjective preferences.

They stand in where no published benchmark is at hand, as in `make demo`. What they show is that
the machinery measures what was planted, nothing about real answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from eval.benchmark import Benchmark, Item, Source
from eval.protocols import STRICT, WORLDPM
from worldpm.group_files import read_group_file
from worldpm.schema import TestSetKind

KINDS: tuple[TestSetKind, ...] = ("adversarial", "objective", "subjective")
FILES = tuple(f"{kind}.jsonl" for kind in KINDS)


def load(folder: Path) -> Iterator[Item]:
    """Read the group files `<kind>.jsonl` that are there."""
    for kind in KINDS:
        path = folder / f"{kind}.jsonl"
        if not path.is_file():
            continue
        for number, group in enumerate(read_group_file(path), start=1):
            yield Item(
                item_id=f"{kind}/{group.group_id}",
                subset=kind,
                prompt=group.prompt,
                responses=group.responses,
                pairs=tuple(replace(pair, weight=1.0) for pair in group.pairs),
                where=f"{path}: group {number}",
            )


def _benchmark(kind: TestSetKind) -> Benchmark:
    return Benchmark(
        name=f"generated-{kind}",
        kind=kind,
        official=STRICT,
        worldpm=WORLDPM,
        description=f"Planted {kind} preferences on held-out questions.",
        subsets=(kind,),
        caveats=("Made-up text with planted truth: it tests the machinery, not a model's worth.",),
    )


SOURCE = Source(
    name="generated",
    folders=("test_sets", "."),
    marker_files=FILES,
    load=load,
    licence="Apache-2.0",
    origin="worldpm data generate",
    item_ids="<kind>/<group id>",
    response_order="as in the group file",
    benchmarks=tuple(_benchmark(kind) for kind in KINDS),
)
