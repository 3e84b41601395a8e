"""HumanEvalPack: canonical against buggy programs in six languages (OctoPack, 2023)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import FIRST_BETTER, Benchmark, Item, Section, Source, user
from eval.protocols import WORLDPM, pairwise
from eval.rows import read_lines
from worldpm.errors import InputError

LANGUAGES = ("cpp", "go", "java", "js", "python", "rust")


def load(folder: Path) -> Iterator[Item]:
    """Read `<language>.jsonl`: the response is the declaration and the solution's body."""
    paths = [folder / f"{language}.jsonl" for language in LANGUAGES]
    if not any(path.is_file() for path in paths):
        raise InputError(f"{folder} holds none of {', '.join(path.name for path in paths)}")
    for path in paths:
        if not path.is_file():
            continue
        for row in read_lines(path):
            declaration = row.text("declaration")
            yield Item(
                item_id=row.identifier("task_id"),
                subset=path.stem,
                prompt=user(row.text("instruction")),
                responses=(
                    declaration + row.text("canonical_solution"),
                    declaration + row.text("buggy_solution"),
                ),
                pairs=FIRST_BETTER,
                where=row.where,
            )


SOURCE = Source(
    name="humanevalpack",
    load=load,
    licence="MIT",
    origin="https://github.com/bigcode-project/octopack",
    hub_id="bigcode/humanevalpack",
    item_ids="task_id: CPP/0, Python/163",
    response_order="canonical solution, buggy solution",
    benchmarks=(
        Benchmark(
            name="humanevalpack",
            kind="objective",
            official=pairwise(
                tie=0.0,
                rule="pairs, tie = 0, unweighted mean of six languages of equal size",
                sections=tuple(Section(language, (language,)) for language in LANGUAGES),
            ),
            worldpm=WORLDPM,
            description="A right program against the same with one bug.",
            fidelity="substitute",
            paper_set="PPE MBPP-Plus",
            num_items=984,
            caveats=("RM-Bench code is made from these problems: not two independent numbers.",),
        ),
    ),
)
