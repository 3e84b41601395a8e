"""Rows of the published formats become the groups their authors meant."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.sources.preference_sets import Dropped, ImportSource, read_preference_set
from data_pipeline.sources.preference_sets.records import disjoint_pairs, pair_up
from worldpm.errors import InputError
from worldpm.schema import Group, Message, Pair


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, format: str, **settings: Any) -> list[Group | Dropped]:
    source = ImportSource.model_validate({"path": path, "format": format, **settings})
    return list(read_preference_set(source, seed=0))


def reasons(items: list[Group | Dropped]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Dropped)]


def helpsteer_row(prompt: str, response: str, helpfulness: int) -> dict[str, Any]:
    ratings = {"correctness": 4 - helpfulness, "coherence": 4, "complexity": 1, "verbosity": 2}
    return {"prompt": prompt, "response": response, "helpfulness": helpfulness, **ratings}


def test_helpsteer2_pairs_two_rows_by_helpfulness(tmp_path: Path) -> None:
    dialogue = "Hi<extra_id_1>Assistant\nHello!\n<extra_id_1>User\nHow are you?"
    path = write_lines(
        tmp_path / "train.jsonl",
        [
            helpsteer_row("Why?", "Because.", 1),
            helpsteer_row("Why?", "Since it is so.", 4),
            helpsteer_row(dialogue, "Fine.", 3),
            helpsteer_row(dialogue, "No.", 3),
        ],
    )
    first, second = read(path, "helpsteer2")
    assert isinstance(first, Group)
    assert first.prompt == (Message("user", "Why?"),)
    assert first.pairs == (Pair(1, 0, margin=3),)
    assert isinstance(second, Dropped)
    assert second.reason == "equal_ratings"
    by_correctness = read(path, "helpsteer2", helpsteer2_dimension="correctness")[0]
    assert isinstance(by_correctness, Group)
    assert by_correctness.pairs == (Pair(0, 1, margin=3),)


def test_helpsteer2_conversations_become_turns(tmp_path: Path) -> None:
    dialogue = "Hi<extra_id_1>Assistant\nHello!\n<extra_id_1>User\nHow?\n<extra_id_1>Assistant\n"
    rows = [helpsteer_row(dialogue, "Well.", 3), helpsteer_row(dialogue, "Bad.", 0)]
    group = read(write_lines(tmp_path / "a.jsonl", rows), "helpsteer2")[0]
    assert isinstance(group, Group)
    assert [(turn.role, turn.content) for turn in group.prompt] == [
        ("user", "Hi"),
        ("assistant", "Hello!"),
        ("user", "How?"),
    ]


def test_helpsteer2_rows_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    alone = write_lines(tmp_path / "alone.jsonl", [helpsteer_row("Why?", "Because.", 1)])
    with pytest.raises(InputError, match="no partner"):
        read(alone, "helpsteer2")
    rows = [helpsteer_row("Why?", "a", 1), helpsteer_row("How?", "b", 2)]
    with pytest.raises(InputError, match=r"mixed\.jsonl:2: the prompt differs"):
        read(write_lines(tmp_path / "mixed.jsonl", rows), "helpsteer2")


def ultrafeedback_row(scores: list[float | None]) -> dict[str, Any]:
    return {
        "source": "evol_instruct",
        "instruction": "Explain.",
        "models": [f"model-{place}" for place in range(len(scores))],
        "completions": [
            {
                "model": f"model-{place}",
                "principle": "helpfulness",
                "custom_system_prompt": "As an AI assistant, be helpful.",
                "response": f"answer {place}",
                "annotations": {},
                "overall_score": 10 - place,
                "fine-grained_score": score,
                "critique": "good",
            }
            for place, score in enumerate(scores)
        ],
    }


def test_ultrafeedback_makes_two_disjoint_pairs_of_four(tmp_path: Path) -> None:
    rows = [ultrafeedback_row([4.75, 3.5, 2.0, 1.25]), ultrafeedback_row([3.0, 3.0, 3.0, 3.0])]
    items = read(write_lines(tmp_path / "a.jsonl", rows), "ultrafeedback")
    group = items[0]
    assert isinstance(group, Group)
    assert sorted(i for pair in group.pairs for i in (pair.chosen, pair.rejected)) == [0, 1, 2, 3]
    scores = [4.75, 3.5, 2.0, 1.25]
    assert all(
        pair.margin == 4 * (scores[pair.chosen] - scores[pair.rejected]) for pair in group.pairs
    )
    assert reasons(items) == ["equal_ratings"]


def test_ultrafeedback_without_ratings_is_dropped(tmp_path: Path) -> None:
    items = read(
        write_lines(tmp_path / "a.jsonl", [ultrafeedback_row([1.0, None])]), "ultrafeedback"
    )
    assert reasons(items) == ["fewer_than_two_rated_responses"]


@given(ratings=st.lists(st.integers(1, 5), min_size=2, max_size=6), seed=st.integers(0, 9))
def test_disjoint_pairs_share_no_response_and_are_as_many_as_possible(
    ratings: list[int], seed: int
) -> None:
    pairs = disjoint_pairs(ratings, "g", seed)
    used = [index for pair in pairs for index in (pair.chosen, pair.rejected)]
    assert len(set(used)) == len(used)
    assert all(ratings[pair.chosen] > ratings[pair.rejected] for pair in pairs)
    # Unequal values can be paired up until one value fills what is left.
    commonest = Counter(ratings).most_common(1)[0][1]
    assert len(pairs) == min(len(ratings) // 2, len(ratings) - commonest)


@given(ratings=st.lists(st.integers(0, 3), max_size=6), seed=st.integers(0, 9))
def test_the_random_pair_is_one_of_all_pairs(ratings: list[int], seed: int) -> None:
    everything = pair_up(ratings, "g", seed, "all")
    assert all(ratings[pair.chosen] > ratings[pair.rejected] for pair in everything)
    drawn = pair_up(ratings, "g", seed, "one_random_pair")
    assert len(drawn) == min(1, len(everything))
    assert all(pair in everything for pair in drawn)


def conversation(*texts: str) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(texts)
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]


def test_rlhflow_conversations_share_all_but_the_last_turn(tmp_path: Path) -> None:
    rows = [
        {
            "rejected": conversation("Hi", "Hello", "Why?", "No."),
            "rejected_score": 2.0,
            "chosen_score": 5.0,
            "chosen": conversation("Hi", "Hello", "Why?", "Because."),
        },
        {"chosen": conversation("a", "b"), "rejected": conversation("c", "d")},
        {"chosen": conversation("a", "b", "c"), "rejected": conversation("a", "b", "d")},
        {"chosen": conversation("a", "same"), "rejected": conversation("a", "same")},
        {"chosen": conversation("a", " "), "rejected": conversation("a", "text")},
    ]
    items = read(write_lines(tmp_path / "a.jsonl", rows), "conversations", name="rlhflow")
    group = items[0]
    assert isinstance(group, Group)
    assert group.group_id == "rlhflow/0"
    assert [turn.content for turn in group.prompt] == ["Hi", "Hello", "Why?"]
    assert group.responses == ("Because.", "No.")
    assert reasons(items) == [
        "different_prompts",
        "last_turn_is_not_the_assistants",
        "same_text",
        "empty_response",
    ]


def test_our_own_export_comes_back(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": [{"role": "user", "content": "Why?"}],
            "chosen": [{"role": "assistant", "content": "Because."}],
            "rejected": [{"role": "assistant", "content": "No."}],
            "margin": 4,
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    group = read(tmp_path / "pairs.parquet", "conversations")[0]
    assert group == Group(
        "import/0", (Message("user", "Why?"),), ("Because.", "No."), (Pair(0, 1, margin=4),)
    )


def transcript(*turns: str) -> str:
    names = ["Human", "Assistant"] * len(turns)
    return "".join(f"\n\n{name}: {turn}" for name, turn in zip(names, turns, strict=False))


def test_hh_rlhf_transcripts_are_cut_at_the_last_assistant_turn(tmp_path: Path) -> None:
    rows = [
        {"chosen": transcript("Hi", "Hello", "Why?", "Because."),
         "rejected": transcript("Hi", "Hello", "Why?", "No\n\nmore.")},
        {"chosen": transcript("Hi", "a", "x", "b"), "rejected": transcript("Hi", "c", "y", "d")},
        {"chosen": transcript("Hi", "a"), "rejected": transcript("Hi", "b", "And?", "c")},
        {"chosen": transcript("Hi", "a"), "rejected": transcript("Hi", "")},
    ]  # fmt: skip
    items = read(write_lines(tmp_path / "test.jsonl", rows), "hh_rlhf")
    group = items[0]
    assert isinstance(group, Group)
    assert [turn.role for turn in group.prompt] == ["user", "assistant", "user"]
    assert group.responses == ("Because.", "No\n\nmore.")
    assert reasons(items) == ["transcripts_part_before_the_last_turn"] * 2 + ["empty_response"]


@pytest.mark.shared_data
def test_the_real_hh_rlhf_file_is_read_whole(shared_data: Path) -> None:
    path = shared_data / "eval" / "hh-rlhf" / "harmless-base" / "test.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        num_rows = sum(1 for _ in file)
    items = read(path, "hh_rlhf")
    groups = [item for item in items if isinstance(item, Group)]
    assert len(items) == num_rows == 2312
    assert len(groups) > 0.98 * num_rows
    assert all(group.prompt[0].role == "user" == group.prompt[-1].role for group in groups)
    assert not any("\n\nHuman:" in text for group in groups for text in group.responses)


@pytest.mark.shared_data
def test_the_real_helpful_subset_is_read_whole(shared_data: Path) -> None:
    path = shared_data / "eval" / "hh-rlhf" / "helpful_subset_rmgallery.jsonl"
    items = read(path, "rm_gallery", name="hh-helpful")
    groups = [item for item in items if isinstance(item, Group)]
    assert len(items) == 1137
    assert all(len(group.pairs) == 1 for group in groups)
    assert len(groups) > 0.98 * len(items)


def shp_row(post: str, first: str, second: str, label: int, scores: tuple[int, int]) -> Any:
    return {
        "post_id": post,
        "domain": "askculinary_train",
        "upvote_ratio": 0.98,
        "history": f"Post {post}",
        "c_root_id_A": first,
        "c_root_id_B": second,
        "created_at_utc_A": 1,
        "created_at_utc_B": 2,
        "score_A": scores[0],
        "score_B": scores[1],
        "human_ref_A": f"text {first}",
        "human_ref_B": f"text {second}",
        "labels": label,
        "seconds_difference": 1.0,
        "score_ratio": max(scores) / min(scores),
    }


def test_shp_rows_of_a_post_share_their_comments(tmp_path: Path) -> None:
    rows = [
        shp_row("p", "x", "y", 1, (9, 3)),
        shp_row("p", "z", "x", 0, (2, 9)),
        shp_row("q", "u", "v", 0, (4, 5)),
    ]
    path = write_lines(tmp_path / "train.json.jsonl", rows)
    first, second = read(path, "shp")
    assert isinstance(first, Group)
    assert first.responses == ("text x", "text y", "text z")
    assert first.pairs == (Pair(0, 1, margin=6), Pair(0, 2, margin=7))
    assert isinstance(second, Group)
    assert second.pairs == (Pair(1, 0, margin=1),)
    assert reasons(read(path, "shp", shp_min_score_ratio=2)) == ["score_ratio_too_small"]


def test_quora_style_questions_pair_by_upvotes(tmp_path: Path) -> None:
    answers = [{"text": f"answer {votes}", "upvotes": votes} for votes in (5, 0, 12)]
    rows = [
        {"question": "Why?", "details": "I wonder.", "answers": answers},
        {"question": "How?", "answers": answers[:1]},
        {"question": "When?", "answers": []},
        {"question": "Who?", "answers": [answers[0], {"text": "other", "upvotes": 5}]},
    ]
    path = write_lines(tmp_path / "quora.jsonl", rows)
    items = read(path, "quora")
    assert isinstance(items[0], Group)
    assert items[0].prompt[0].content == "Why?\n\nI wonder."
    assert len(items[0].pairs) == 1
    assert reasons(items) == ["single_answer", "no_answer", "equal_ratings"]
    everything = read(path, "quora", quora_pairing="all")[0]
    assert isinstance(everything, Group)
    assert set(everything.pairs) == {Pair(0, 1, 5), Pair(2, 0, 7), Pair(2, 1, 12)}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"chosen": 3}\n', r"a\.jsonl:1: chosen must be a text, found int"),
        ("a.jsonl", b"{", r"a\.jsonl:1: no valid JSON"),
        ("a.jsonl", b"[1]\n", r"a\.jsonl:1: expected an object"),
        ("a.json", b'{"a": 1}', "expected a list"),
        ("a.jsonl.gz", b"no gzip", "no whole gzip file"),
        ("a.csv", b"", r"files that end in"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name, "hh_rlhf")
    with pytest.raises(InputError, match="there is no file"):
        read(tmp_path / "missing.jsonl", "hh_rlhf")
