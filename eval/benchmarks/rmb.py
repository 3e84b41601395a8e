"""RMB: helpfulness and harmlessness over many real tasks (Zhou et al., ICLR 2025)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from eval.benchmark import Benchmark, Item, Protocol, ScoredItem, Section, Source
from eval.protocols import STRICT, WORLDPM, beats_all, best_of_n, labelled_pairs, per_item
from eval.rows import Row, read_array
from worldpm.errors import InputError
from worldpm.schema import Pair

PAIRWISE, BEST_OF_N = "Pairwise_set", "BoN_set"


def load(folder: Path) -> Iterator[Item]:
    """Read every category below `Pairwise_set` and `BoN_set` that is there.

    The subset is the category's path, `Pairwise_set/Helpfulness/Chat/Discussion`.
    """
    paths = [
        path for part in (PAIRWISE, BEST_OF_N) for path in sorted((folder / part).rglob("*.json"))
    ]
    if not paths:
        raise InputError(f"{folder} holds no {PAIRWISE} or {BEST_OF_N} with .json files")
    for path in paths:
        subset = path.relative_to(folder).with_suffix("").as_posix()
        read = _pair if subset.startswith(PAIRWISE) else _list
        for row in read_array(path):
            yield read(row, subset)


def _pair(row: Row, subset: str) -> Item:
    # The key is "reject", not "rejected".
    return Item(
        item_id=row.identifier("pair_uid"),
        subset=subset,
        prompt=row.messages("conversation_input"),
        responses=(row.part("chosen").text("answer"), row.part("reject").text("answer")),
        pairs=(Pair(0, 1),),
        where=row.where,
    )


def _list(row: Row, subset: str) -> Item:
    losers = row.get("loser_list")
    if not isinstance(losers, list) or not losers or not all(isinstance(x, dict) for x in losers):
        raise row.refuse("loser_list must be a list of answers, at least one")
    responses = (
        row.part("bon_best").text("answer"),
        *(Row(loser, row.where).text("answer") for loser in losers),
    )
    return Item(
        item_id=f"bon/{row.identifier('bon_uid')}",
        subset=subset,
        prompt=row.messages("conversation_input"),
        responses=responses,
        pairs=tuple(Pair(0, index) for index in range(1, len(responses))),
        where=row.where,
    )


HELPFUL = (f"{PAIRWISE}/Helpfulness",)
HARMLESS = (f"{PAIRWISE}/Harmlessness",)
HELPFUL_LISTS = (f"{BEST_OF_N}/Helpfulness",)
HARMLESS_LISTS = (f"{BEST_OF_N}/Harmlessness",)

LISTS = best_of_n(
    rule="right iff the winner scores strictly higher than every loser, micro average",
    credit=beats_all,
)


def _whole_credit(one: ScoredItem) -> tuple[float, float]:
    # For a pair, beating every loser is beating the one: both parts share the rule.
    return beats_all(one), 1.0


WHOLE = Protocol(
    rule="pairs and lists, tie = 0; unweighted mean of the four parts, each micro",
    pairs=labelled_pairs,
    outcomes=per_item(_whole_credit),
    sections=(
        Section("pairwise helpfulness", HELPFUL),
        Section("pairwise harmlessness", HARMLESS),
        Section("best-of-n helpfulness", HELPFUL_LISTS),
        Section("best-of-n harmlessness", HARMLESS_LISTS),
    ),
    chance=lambda item: 1.0 / len(item.responses),
)
NOT_RELEASED = "The authors never released their best-of-n code; this is the rule of RM-R1's."

SOURCE = Source(
    name="rmb",
    load=load,
    licence="see the authors' repository",
    origin="https://github.com/Zhou-Zoey/RMB-Reward-Model-Benchmark",
    item_ids="pair_uid; bon/<bon_uid> for the best-of-N lists",
    response_order="chosen, reject; bon_best, then loser_list in its order",
    benchmarks=(
        Benchmark(
            name="rmb-helpfulness",
            kind="subjective",
            official=STRICT,
            worldpm=WORLDPM,
            description="Pairs of answers over 12 tasks, labelled by GPT-4.",
            subsets=HELPFUL,
            fidelity="as the paper",
            paper_set="RMB helpfulness",
        ),
        Benchmark(
            name="rmb-harmlessness",
            kind="safety",
            official=STRICT,
            worldpm=WORLDPM,
            description="Pairs of answers to harmful requests.",
            subsets=HARMLESS,
            fidelity="as the paper",
            paper_set="RMB harmlessness (its tables)",
        ),
        Benchmark(
            name="rmb-best-of-n",
            kind="subjective",
            official=LISTS,
            worldpm=WORLDPM,
            description="One best answer among three to six.",
            subsets=HELPFUL_LISTS,
            caveats=(NOT_RELEASED,),
        ),
        Benchmark(
            name="rmb",
            kind="subjective",
            official=WHOLE,
            worldpm=WORLDPM,
            description="The whole suite: pairs and lists, helpfulness and harmlessness.",
            caveats=(NOT_RELEASED,),
        ),
    ),
)
