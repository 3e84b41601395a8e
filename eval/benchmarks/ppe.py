"""Preference Proxy Evaluations: arena votes, and sampled answers with known correctness.

Frick et al., 2024 (arXiv 2410.14872). Every correctness set holds 32 answers a question and the
pairs of a right and a wrong one among them that its authors sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from eval.benchmark import FIRST_BETTER, SECOND_BETTER, Benchmark, Item, Source, user
from eval.protocols import WORLDPM, pairwise, worldpm_rule
from eval.rows import Row, read_folder
from worldpm.schema import Pair

WINNERS = {
    "model_a": FIRST_BETTER,
    "model_b": SECOND_BETTER,
    "tie": (),
    "tie (bothbad)": (),
}
NUM_RESPONSES = 32
EXCLUDED_MODEL = "claude-3-haiku"


def load_human_preference(folder: Path) -> Iterator[Item]:
    """Read `question_id`, `prompt`, `response_1`, `response_2`, `winner`; a tie makes no pair."""
    for row in read_folder(folder):
        yield Item(
            item_id=row.identifier("question_id"),
            subset=row.text("language"),
            prompt=user(row.text("prompt")),
            responses=(row.text("response_1"), row.text("response_2")),
            pairs=WINNERS[row.choice("winner", tuple(WINNERS))],
            where=row.where,
        )


def load_correctness(folder: Path) -> Iterator[Item]:
    """Read `prompt`, `response_1` … `response_32`, `scores` (32 booleans) and the sampled pairs."""
    for row in read_folder(folder):
        responses = tuple(row.text(f"response_{index + 1}") for index in range(NUM_RESPONSES))
        model = row.text("model_name")
        yield Item(
            # A question may stand there once for each of the four models that answered it.
            item_id=f"{model}/{row.identifier('question_id')}",
            subset=model,
            prompt=user(row.text("prompt")),
            responses=responses,
            pairs=tuple(_conflict_pairs(row)),
            where=row.where,
        )


def _conflict_pairs(row: Row) -> Iterator[Pair]:
    correct = row.get("scores")
    pairs = row.get("sampled_conflict_pairs")
    if not isinstance(correct, list) or len(correct) != NUM_RESPONSES:
        raise row.refuse(f"scores must hold {NUM_RESPONSES} values")
    if not isinstance(pairs, list):
        raise row.refuse("sampled_conflict_pairs must be a list of pairs")
    for pair in pairs:
        if len(pair) != 2 or not all(0 <= index < NUM_RESPONSES for index in pair):
            raise row.refuse(f"the pair {pair!r} does not name two of {NUM_RESPONSES} responses")
        first, second = pair
        if correct[first] == correct[second]:
            raise row.refuse(f"the pair {pair!r} has two answers of equal correctness")
        yield Pair(first, second) if correct[first] > correct[second] else Pair(second, first)


def without_excluded_model(item: Item) -> tuple[Pair, ...]:
    """The paper's MBPP-Plus: no sample of Claude 3 Haiku, whose right answers are short."""
    return () if item.subset.startswith(EXCLUDED_MODEL) else item.pairs


OFFICIAL = pairwise(tie=0.0, rule="sampled conflict pairs, tie = 0, micro average over pairs")


def _correctness(name: str, hub_name: str, licence: str, **fields: Any) -> Source:
    return Source(
        name=f"ppe-{name}",
        folders=(f"ppe/{name}", hub_name),
        load=load_correctness,
        licence=licence,
        origin="https://github.com/lmarena/PPE",
        hub_id=f"lmarena-ai/{hub_name}",
        item_ids="<model_name>/<question_id>",
        response_order="response_1 … response_32",
        benchmarks=(Benchmark(name=f"ppe-{name}", kind="objective", official=OFFICIAL, **fields),),
    )


HUMAN_PREFERENCE = Source(
    name="ppe-human-preference",
    folders=("ppe/human-preference", "PPE-Human-Preference-V1"),
    load=load_human_preference,
    licence="prompts CC-BY-4.0, responses under their models' terms",
    origin="https://github.com/lmarena/PPE",
    hub_id="lmarena-ai/PPE-Human-Preference-V1",
    item_ids="question_id",
    response_order="response_1, response_2",
    benchmarks=(
        Benchmark(
            name="ppe-human-preference",
            kind="subjective",
            official=pairwise(
                tie=0.0, rule="votes that are no tie, equal scores = 0 (unverified), micro average"
            ),
            worldpm=WORLDPM,
            description="Votes of the Chatbot Arena.",
            fidelity="as the paper",
            paper_set="PPE human preference",
        ),
    ),
)
MBPP_PLUS = _correctness(
    "mbpp-plus",
    "PPE-MBPP-Plus-Best-of-K",
    "Apache-2.0",
    worldpm=worldpm_rule(without_excluded_model, "; without the samples of Claude 3 Haiku"),
    description="Right against wrong programs.",
    fidelity="as the paper",
    paper_set="PPE MBPP-Plus",
    caveats=("Length correlates −0.62 with correctness for Claude 3 Haiku.",),
)
MMLU_PRO = _correctness(
    "mmlu-pro",
    "PPE-MMLU-Pro-Best-of-K",
    "MIT",
    worldpm=WORLDPM,
    description="Right against wrong answers over many subjects.",
    fidelity="as the paper",
    paper_set="PPE MMLU-Pro",
)
GPQA = _correctness(
    "gpqa",
    "PPE-GPQA-Best-of-K",
    "CC-BY-4.0",
    worldpm=WORLDPM,
    description="Right against wrong answers to graduate-level questions.",
    fidelity="as the paper",
    paper_set="PPE GPQA",
)
IFEVAL = _correctness(
    "ifeval",
    "PPE-IFEval-Best-of-K",
    "Apache-2.0",
    worldpm=WORLDPM,
    description="Answers that keep or break checkable instructions.",
    fidelity="as the paper",
    paper_set="PPE IFEval",
)
MATH = _correctness(
    "math",
    "PPE-MATH-Best-of-K",
    "MIT",
    worldpm=WORLDPM,
    description="Right against wrong solutions.",
    fidelity="as the paper",
    paper_set="PPE MATH (its tables)",
)
SOURCES: tuple[Source, ...] = (HUMAN_PREFERENCE, MBPP_PLUS, MMLU_PRO, GPQA, IFEVAL, MATH)
