"""Every loader on rows of the format its authors publish, and on broken ones."""

from __future__ import annotations

from typing import Any

import pytest

from eval.benchmarks import BENCHMARKS, SOURCES
from eval.catalog import index_items, load_catalog
from worldpm.errors import ConfigError, InputError
from worldpm.schema import Pair


def _load(name: str, folder) -> dict:
    return index_items(SOURCES[name], folder)


def test_offsetbias_labels_name_the_better_output(tmp_path, write_lines):
    row = {"instruction": "i", "output_1": "a", "output_2": "b", "label": 2}
    write_lines("offsetbias/train.jsonl", [row, {**row, "label": 1}])
    items = _load("offsetbias", tmp_path / "offsetbias")
    assert [item.pairs for item in items.values()] == [(Pair(1, 0),), (Pair(0, 1),)]


def _ppe_row(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = {f"response_{index + 1}": f"r{index}" for index in range(32)}
    row |= {
        "question_id": "q1",
        "model_name": "gpt-4o-mini-2024-07-18",
        "prompt": "p",
        "scores": [index % 2 == 1 for index in range(32)],
        "sampled_conflict_pairs": [[0, 1], [5, 2], [0, 1]],
    }
    return row | changes


def test_ppe_pairs_put_the_right_answer_first_and_keep_exact_repeats(tmp_path, write_lines):
    write_lines("PPE-MATH-Best-of-K/train.jsonl", [_ppe_row()])
    source = SOURCES["ppe-math"]
    [item] = index_items(source, source.folder(tmp_path)).values()
    assert item.pairs == (Pair(1, 0), Pair(5, 2), Pair(1, 0))
    assert len(item.responses) == 32
    assert item.responses[31] == "r31"


def test_a_ppe_question_may_be_answered_by_several_models(tmp_path, write_lines):
    write_lines("ppe/gpqa/train.jsonl", [_ppe_row(), _ppe_row(model_name="gemma-2-9b-it")])
    assert len(_load("ppe-gpqa", tmp_path / "ppe" / "gpqa")) == 2


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sampled_conflict_pairs": [[0, 2]]}, "equal correctness"),
        ({"sampled_conflict_pairs": [[0, 32]]}, "does not name two of 32"),
        ({"scores": [True]}, "must hold 32"),
    ],
)
def test_broken_ppe_rows_are_refused(tmp_path, write_lines, changes, reason):
    path = write_lines("ppe/math/train.jsonl", [_ppe_row(), _ppe_row(question_id=2, **changes)])
    with pytest.raises(InputError, match=reason) as caught:
        _load("ppe-math", tmp_path / "ppe" / "math")
    assert str(caught.value).startswith(f"{path}:2: ")


def test_ppe_human_preference_drops_ties(tmp_path, write_lines):
    row = {"prompt": "p", "response_1": "a", "response_2": "b", "language": "English"}
    winners = ("model_a", "model_b", "tie", "tie (bothbad)")
    write_lines(
        "ppe/human-preference/test.jsonl",
        [{**row, "question_id": name, "winner": name} for name in winners],
    )
    items = _load("ppe-human-preference", tmp_path / "ppe" / "human-preference")
    assert [item.pairs for item in items.values()] == [(Pair(0, 1),), (Pair(1, 0),), (), ()]


def _helpsteer(prompt: str, response: str, helpfulness: int, verbosity: int = 2) -> dict:
    ratings = {"correctness": 3, "coherence": 4, "complexity": 1, "verbosity": verbosity}
    return {"prompt": prompt, "response": response, "helpfulness": helpfulness, **ratings}


def test_helpsteer2_pairs_two_rows_in_a_row_by_each_dimension(tmp_path, write_lines):
    rows = [
        _helpsteer("p", "a", 4, 1),
        _helpsteer("p", "b", 2, 3),
        _helpsteer("q", "c", 3),
        _helpsteer("q", "d", 3),
    ]
    write_lines("helpsteer2/validation.jsonl", rows)
    first, second = _load("helpsteer2", tmp_path / "helpsteer2").values()
    assert first.responses == ("a", "b")
    assert BENCHMARKS["helpsteer2"][1].official.pairs(first) == (Pair(0, 1, margin=2),)
    assert BENCHMARKS["helpsteer2-verbosity"][1].official.pairs(first) == (Pair(1, 0, margin=2),)
    assert BENCHMARKS["helpsteer2-coherence"][1].official.pairs(first) == ()
    assert not BENCHMARKS["helpsteer2"][1].selects(second)


def test_helpsteer2_turns_are_parted_by_their_token(tmp_path, write_lines):
    prompt = "hi\n<extra_id_1>Assistant\nhello\n<extra_id_1>User\nmore"
    rows = [_helpsteer(prompt, "a", 4), _helpsteer(prompt, "b", 2)]
    write_lines("helpsteer2/validation.jsonl", rows)
    [item] = _load("helpsteer2", tmp_path / "helpsteer2").values()
    assert [(turn.role, turn.content) for turn in item.prompt] == [
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "more"),
    ]


def test_a_helpsteer2_row_without_partner_is_refused(tmp_path, write_lines):
    write_lines("helpsteer2/validation.jsonl", [_helpsteer("p", "a", 4), _helpsteer("q", "b", 2)])
    with pytest.raises(InputError, match="two rows share a prompt"):
        _load("helpsteer2", tmp_path / "helpsteer2")


def test_rewardbench2_responses_are_chosen_then_rejected(tmp_path, write_lines):
    rows = [
        {
            "id": "7",
            "subset": "Math",
            "prompt": "p",
            "chosen": ["good"],
            "rejected": ["b1", "b2", "b3"],
        },
        {
            "id": "tied:3",
            "subset": "Ties",
            "prompt": "p",
            "chosen": ["g1", "g2"],
            "rejected": ["b"],
        },
    ]
    write_lines("rewardbench2/test.jsonl", rows)
    math, ties = _load("rewardbench2", tmp_path / "rewardbench2").values()
    assert math.responses == ("good", "b1", "b2", "b3")
    assert math.pairs == (Pair(0, 1), Pair(0, 2), Pair(0, 3))
    assert ties.pairs == (Pair(0, 2), Pair(1, 2))


def test_rewardbench_reads_its_own_and_the_prior_sets(tmp_path, write_lines):
    rows = [
        {"subset": "donotanswer", "id": 5, "prompt": "p", "chosen": "a", "rejected": "b"},
        {
            "subset": "anthropic_hhh",
            "id": 5,
            "prompt": [{"role": "user", "content": "p"}],
            "chosen": "a",
            "rejected": "b",
        },
    ]
    write_lines("rewardbench/filtered.jsonl", rows)
    items = _load("rewardbench", tmp_path / "rewardbench")
    assert list(items) == ["donotanswer/5", "anthropic_hhh/5"]
    assert BENCHMARKS["rewardbench-with-prior-sets"][1].selects(items["anthropic_hhh/5"])
    assert not BENCHMARKS["rewardbench"][1].selects(items["anthropic_hhh/5"])


def test_rm_bench_math_has_the_format_of_its_siblings(tmp_path, write_array):
    styles = ["concise", "plain", "markdown"]
    row = {"id": 1, "prompt": "p", "chosen": styles, "rejected": [f"bad {s}" for s in styles]}
    write_array("rm-bench/math_filtered.json", [row])
    items = _load("rm-bench", tmp_path / "rm-bench")
    assert BENCHMARKS["rm-bench-math"][1].selects(items["math/1"])
    assert items["math/1"].responses[3] == "bad concise"


def test_generated_sets_are_found_in_a_dump_and_by_themselves(tmp_path, write_lines):
    group = {
        "id": "ai.example/1",
        "prompt": [{"role": "user", "content": "q"}],
        "responses": ["a", "b"],
        "pairs": [[1, 0]],
    }
    write_lines("dump/test_sets/objective.jsonl", [group])
    catalog = load_catalog(["generated-objective", "generated-subjective"], tmp_path / "dump")
    assert list(catalog.items["generated"]) == ["objective/ai.example/1"]
    assert [one.name for one in catalog.missing] == ["generated-subjective"]
    assert load_catalog(["generated-objective"], tmp_path / "dump" / "test_sets").benchmarks


LLMBAR = {"input": "i", "output_1": "a", "output_2": "b", "label": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": 0}, "out of range"),
        ({"label": "1"}, "out of range"),
        ({"output_2": None}, "text"),
    ],
)
def test_a_wrong_label_or_response_is_refused(tmp_path, write_array, change, reason):
    path = write_array("llmbar/LLMBar/Natural/dataset.json", [LLMBAR, LLMBAR | change])
    with pytest.raises(InputError, match=reason) as caught:
        _load("llmbar", tmp_path / "llmbar")
    assert str(caught.value).startswith(f"{path}:3: ")


def test_a_missing_key_is_refused_with_its_line(tmp_path, write_array):
    row = {key: value for key, value in LLMBAR.items() if key != "output_1"}
    path = write_array("llmbar/LLMBar/Natural/dataset.json", [row])
    with pytest.raises(InputError, match=f"{path}:2: the key 'output_1' is missing"):
        _load("llmbar", tmp_path / "llmbar")


def test_a_duplicate_id_is_refused_with_both_places(tmp_path, write_lines):
    row = {
        "pair_id": "x",
        "source": "livecodebench",
        "question": "q",
        "response_model": "gpt-4o-2024-05-13",
        "response_A": "a",
        "response_B": "b",
        "label": "A>B",
    }
    name = "judgebench/dataset=judgebench,response_model=gpt-4o-2024-05-13.jsonl"
    path = write_lines(name, [row, row])
    with pytest.raises(InputError, match=r"twice, first at .*:1") as caught:
        _load("judgebench", tmp_path / "judgebench")
    assert str(caught.value).startswith(f"{path}:2: ")


def test_an_unknown_benchmark_is_a_mistake_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match="did you mean llmbar"):
        load_catalog(["llmbr"], tmp_path)


def test_a_folder_without_any_benchmark_is_refused_with_every_reason(tmp_path):
    with pytest.raises(InputError, match=r"(?s)none of the benchmarks.*llmbar.*autoj"):
        load_catalog(["llmbar", "autoj"], tmp_path)


def test_every_benchmark_says_what_people_need_to_score_it():
    assert len(BENCHMARKS) == sum(len(source.benchmarks) for source in SOURCES.values())
    for name, (source, benchmark) in BENCHMARKS.items():
        assert benchmark.name == name
        assert source.item_ids
        assert source.response_order
        assert source.licence
        assert benchmark.description
        assert (benchmark.fidelity == "not in the paper") == (benchmark.paper_set is None)


def test_the_guide_names_every_benchmark_and_source(project_root):
    guide = (project_root / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert [name for name in (*BENCHMARKS, *SOURCES) if f"`{name}`" not in guide] == []
