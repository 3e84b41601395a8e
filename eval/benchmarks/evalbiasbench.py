"""EvalBiasBench: six biases of judges (Park et al., EMNLP 2024 Findings)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import FIRST_BETTER, SECOND_BETTER, Benchmark, Item, Source, user
from eval.protocols import STRICT, WORLDPM
from eval.rows import read_arrays


def load(folder: Path) -> Iterator[Item]:
    """Read `biasbench.json`, an object of one array a bias.

    Every published label is 1, so a judge that always says "first" is always right: the swap
    probe stands beside the accuracy.
    """
    count: dict[str, int] = {}
    for bias, row in read_arrays(folder / "biasbench.json"):
        index = count.setdefault(bias, 0)
        count[bias] += 1
        label = row.choice("label", (1, 2))
        yield Item(
            item_id=f"{bias}/{index}",
            subset=bias,
            prompt=user(row.text("instruction")),
            responses=(row.text("response1"), row.text("response2")),
            pairs=FIRST_BETTER if label == 1 else SECOND_BETTER,
            where=row.where,
        )


SOURCE = Source(
    name="evalbiasbench",
    load=load,
    licence="BSD-3-Clause",
    origin="https://github.com/ncsoft/offsetbias",
    item_ids="<bias>/<index>: length bias/0 (index within the bias, from 0)",
    response_order="response1, response2",
    benchmarks=(
        Benchmark(
            name="evalbiasbench",
            kind="adversarial",
            official=STRICT,
            worldpm=WORLDPM,
            description="Length, concreteness and four more biases that mislead judges.",
            fidelity="substitute",
            paper_set="OffsetBias",
            num_items=80,
            caveats=(
                "Made for judges; its authors state no rule for a scalar reward: strict is taken.",
                "The second item of a pair repeats the first with the responses exchanged.",
            ),
        ),
    ),
)
