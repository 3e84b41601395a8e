"""LLMBar: instruction following against superficial quality (Zeng et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import (
    FIRST_BETTER,
    SECOND_BETTER,
    Benchmark,
    Item,
    Protocol,
    Section,
    Source,
    user,
)
from eval.protocols import WORLDPM, pairwise
from eval.rows import read_array
from worldpm.errors import InputError

ADVERSARIAL = (
    "Adversarial/Neighbor",
    "Adversarial/GPTInst",
    "Adversarial/GPTOut",
    "Adversarial/Manual",
)
SUBSETS = ("Natural", *ADVERSARIAL)


def load(folder: Path) -> Iterator[Item]:
    """Read `LLMBar/<subset>/dataset.json`; the CaseStudy and Processed folders are not part of it.

    `label` is 1 or 2: the better output.
    """
    root = folder / "LLMBar"
    found = [subset for subset in SUBSETS if (root / subset / "dataset.json").is_file()]
    if not found:
        raise InputError(f"{root} holds none of the folders {', '.join(SUBSETS)}")
    for subset in found:
        for index, row in enumerate(read_array(root / subset / "dataset.json")):
            label = row.choice("label", (1, 2))
            yield Item(
                item_id=f"{subset}/{index}",
                subset=subset,
                prompt=user(row.text("input")),
                responses=(row.text("output_1"), row.text("output_2")),
                pairs=FIRST_BETTER if label == 1 else SECOND_BETTER,
                where=row.where,
            )


def _protocol(subsets: tuple[str, ...], mean: str) -> Protocol:
    # A rating judge asked in both orders is right once for two equal ratings: one half.
    return pairwise(
        tie=0.5,
        rule=f"pairs, tie = 0.5, unweighted mean of {mean}",
        sections=tuple(Section(subset, (subset,)) for subset in subsets),
    )


SOURCE = Source(
    name="llmbar",
    load=load,
    licence="MIT",
    origin="https://github.com/princeton-nlp/LLMBar",
    hub_id="princeton-nlp/LLMBar",
    item_ids="<subset>/<index>: Natural/0, Adversarial/Neighbor/12 (index in dataset.json, from 0)",
    response_order="output_1, output_2",
    benchmarks=(
        Benchmark(
            name="llmbar",
            kind="adversarial",
            official=_protocol(SUBSETS, "the five sets"),
            worldpm=WORLDPM,
            description="Outputs that follow the instruction against better-looking ones.",
            fidelity="substitute",
            paper_set="LLMBar (RewardBench chat-hard)",
            num_items=419,
            caveats=("RewardBench chat-hard is these 419 pairs and 37 of MT-Bench.",),
        ),
        Benchmark(
            name="llmbar-adversarial",
            kind="adversarial",
            official=_protocol(ADVERSARIAL, "the four adversarial sets"),
            worldpm=WORLDPM,
            description="The four adversarial sets of LLMBar.",
            subsets=("Adversarial",),
            num_items=319,
        ),
    ),
)
