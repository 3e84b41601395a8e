"""The real files: their sizes, their traps, and results published from real models' scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.aggregation import AggregationSettings, character_styles, evaluate_protocol
from eval.benchmark import Item, ScoredItem
from eval.benchmarks import BENCHMARKS, SOURCES
from eval.catalog import index_items
from eval.published import PAPER_ROWS, read_published

pytestmark = pytest.mark.shared_data

SETTINGS = AggregationSettings(num_bootstrap=100)

SIZES = {
    "llmbar": 419,
    "llmbar-adversarial": 319,
    "evalbiasbench": 80,
    "judgement-bias": 142,
    "rm-bench": 798,
    "rm-bench-chat": 129,
    "rm-bench-code": 228,
    "rm-bench-safety-response": 157,
    "rm-bench-safety-refuse": 284,
    "judgebench": 350,
    "judgebench-claude": 270,
    "humanevalpack": 984,
    "ifbench": 444,
    "autoj": 1019,
    "pandalm": 894,
    "hh-rlhf-harmless": 2312,
    "hh-rlhf-helpful": 1137,
    "rewardbench": 1850,
    "rewardbench-chat-hard": 419,
    "rewardbench-reasoning": 1431,
    "rmb-best-of-n": 1284,
}


@pytest.fixture(scope="module")
def load(shared_data: Path):
    """A benchmark's items; every source is read once."""
    sources: dict[str, dict[str, Item]] = {}

    def items(name: str) -> list[Item]:
        source, benchmark = BENCHMARKS[name]
        if source.name not in sources:
            folder = source.folder(shared_data / "eval")
            assert folder is not None
            sources[source.name] = index_items(source, folder)
        return [item for item in sources[source.name].values() if benchmark.selects(item)]

    return items


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_a_benchmark_has_its_published_number_of_items(load, name: str, size: int):
    assert len(load(name)) == size


def test_rmb_has_its_pairs_of_both_kinds(load):
    assert len(load("rmb-helpfulness")) == 5160
    assert len(load("rmb-harmlessness")) == 2700
    assert any(len(item.prompt) > 1 for item in load("rmb-helpfulness"))
    assert all(item.prompt[-1].role == "user" for item in load("rmb-helpfulness"))


def _scored(items: list[Item], scores: dict[str, tuple[float, ...]]) -> list[ScoredItem]:
    return [ScoredItem(item, scores[item.item_id]) for item in items]


def test_judgebench_tables_are_reproduced_to_the_digit(load, shared_data: Path):
    golden = shared_data / "eval-golden"
    expected = json.loads((golden / "expected.json").read_text())["judgebench"]
    assert len(expected["models"]) == 2
    for published in expected["models"].values():
        path = golden / "judgebench" / published["file"]
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        # The first judgement is in the order of the file, the second with A and B exchanged.
        scores = {row["pair_id"]: tuple(row["judgments"][0]["judgment"]["scores"]) for row in rows}
        block = evaluate_protocol(
            BENCHMARKS["judgebench"][1].official,
            _scored(load("judgebench"), scores),
            character_styles,
            SETTINGS,
        )
        found = [block["subsets"][name]["accuracy"] for name in expected["columns"][:4]]
        assert [round(100 * x, 2) for x in [*found, block["accuracy"]]] == published["published"]
        assert block["num_ties"] == published["score_ties"]


def test_rmb_armorm_gets_675_of_849_with_12_ties(shared_data: Path, make_item):
    path = shared_data / "eval-golden" / "rmb" / "ArmoRM-Llama3-8B-v0.1_result.json"
    rows = json.loads(path.read_text())
    scored = [
        ScoredItem(
            make_item(row["pair_uid"], subset=row["category_path"]),
            (row["chosen_reward"], row["reject_reward"]),
        )
        for row in rows
    ]
    benchmark = BENCHMARKS["rmb-helpfulness"][1]
    assert all(benchmark.selects(one.item) for one in scored)
    block = evaluate_protocol(benchmark.official, scored, character_styles, SETTINGS)
    assert block["num_items"] == 849
    assert round(block["accuracy"] * 849) == 675
    assert block["num_ties"] == 12
    half = evaluate_protocol(benchmark.worldpm, scored, character_styles, SETTINGS)
    assert half["accuracy"] == pytest.approx((675 + 6) / 849)


def _longer(items: list[Item]) -> tuple[int, int]:
    lengths = [
        (len(item.responses[pair.chosen]), len(item.responses[pair.rejected]))
        for item in items
        for pair in item.pairs
    ]
    return sum(good > bad for good, bad in lengths), sum(good == bad for good, bad in lengths)


def test_longer_response_checksums_of_the_code_and_math_subsets(load):
    reasoning = load("rewardbench-reasoning")
    code = [item for item in reasoning if item.subset.startswith("hep-")]
    assert (len(code), _longer(code)[1]) == (984, 364)
    assert _longer([item for item in reasoning if item.subset == "math-prm"])[0] == 38
    # The same programs as their authors publish them: a declaration changes no difference.
    assert _longer(load("humanevalpack")) == _longer(code)


def test_the_length_baseline_is_the_share_of_longer_chosen_responses(load):
    for name in ("humanevalpack", "judgement-bias", "hh-rlhf-harmless"):
        items = load(name)
        longer, equal = _longer(items)
        lengths = {item.item_id: tuple(float(len(t)) for t in item.responses) for item in items}
        scored = _scored(items, lengths)
        benchmark = BENCHMARKS[name][1]
        strict = evaluate_protocol(benchmark.official, scored, character_styles, SETTINGS)
        halves = evaluate_protocol(benchmark.worldpm, scored, character_styles, SETTINGS)
        assert strict["length_baseline"] == pytest.approx(longer / len(items))
        assert halves["length_baseline"] == pytest.approx((longer + equal / 2) / len(items))
        assert strict["accuracy"] == pytest.approx(strict["length_baseline"])


def test_every_evalbiasbench_label_is_the_first_response(load):
    assert {item.pairs[0].chosen for item in load("evalbiasbench")} == {0}


def test_rm_bench_plain_and_markdown_coincide_where_there_was_no_markdown(load):
    for name, count in (("chat", 12), ("safety-response", 24), ("code", 0), ("safety-refuse", 0)):
        items = load(f"rm-bench-{name}")
        assert sum(item.responses[1] == item.responses[2] for item in items) == count


def test_refusals_are_far_shorter_when_concise(load):
    lengths = [
        [len(item.responses[index]) for index in (0, 5)] for item in load("rm-bench-safety-refuse")
    ]
    concise, markdown = (sorted(column)[len(column) // 2] for column in zip(*lengths, strict=True))
    assert concise < 100
    assert markdown > 1000


def test_pandalm_booleans_are_read_as_the_words_the_models_wrote(shared_data: Path):
    items = index_items(SOURCES["pandalm"], shared_data / "eval" / "pandalm")
    assert items["157"].responses == ("True", "True.")
    assert items["162"].responses == ("The statement is correct.", "True")


def test_hh_transcripts_are_split_before_the_last_reply(load):
    items = load("hh-rlhf-harmless")
    first = items[0]
    assert [turn.role for turn in first.prompt] == ["user", "assistant"] * 2 + ["user"]
    assert first.responses[0].startswith("No, sorry!")
    assert first.responses[1].startswith("There are lots")
    # Five transcripts part before the last turn: the rest stays with the response.
    assert "Assistant:" in items[1952].responses[0]
    assert all(item.responses[0] != item.responses[1] for item in items)


def test_llmbar_is_part_of_rewardbench_chat_hard(load):
    ours = {(item.prompt[0].content, frozenset(item.responses)) for item in load("llmbar")}
    theirs = {
        (item.prompt[0].content, frozenset(item.responses))
        for item in load("rewardbench-chat-hard")
    }
    assert ours == theirs


def test_the_papers_tables_name_benchmarks_we_have(shared_data: Path):
    numbers = read_published(shared_data / "eval-golden" / "worldpm-tables.json")
    assert {number.benchmark for number in numbers} == set(PAPER_ROWS.values())
    assert set(PAPER_ROWS.values()) <= set(BENCHMARKS)
    # Table 3, 72B on HelpSteer2, from WorldPM.
    [value] = [
        number.accuracy
        for number in numbers
        if number.benchmark == "rm-bench-code" and number.model.startswith("72B fine-tuned on HS2")
    ]
    assert value == 69.3
