"""Every item is scored once: after a kill, over ranks, and with prompts shared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eval.benchmark import user
from eval.runner import (
    PARTS_DIRECTORY,
    Shard,
    checkpoint_identity,
    run_identity,
    score_catalog,
    score_items,
)
from worldpm.errors import InputError


@pytest.fixture
def items(make_item):
    """1,001 items of one source."""
    return [("judgebench", make_item(f"{index:04d}")) for index in range(1001)]


def _ids(groups):
    return [group.group_id for group in groups]


def test_one_thousand_and_one_items_over_three_ranks_count_one_thousand_and_one(
    tmp_path, items, make_scorer
):
    scorers = [make_scorer() for _ in range(3)]
    tables = [
        score_catalog(items, scorer, tmp_path, model_identity="m", shard=Shard(rank, 3))
        for rank, scorer in enumerate(scorers)
    ]
    assert tables[:2] == [None, None]
    assert len(tables[2]["judgebench"]) == 1001
    assert [len(scorer.groups) for scorer in scorers] == [334, 334, 333]
    asked = {name for scorer in scorers for name in _ids(scorer.groups)}
    assert len(asked) == 1001
    assert len((tmp_path / "items.jsonl").read_text().splitlines()) == 1001


def test_ranks_and_one_process_write_the_same_lines(tmp_path, items, make_scorer):
    score_catalog(items, make_scorer(), tmp_path / "one", model_identity="m", shard=Shard())
    for rank in (2, 0, 1):
        shard = Shard(rank, 3)
        score_catalog(items, make_scorer(), tmp_path / "three", model_identity="m", shard=shard)
    one, three = ((tmp_path / name / "items.jsonl").read_bytes() for name in ("one", "three"))
    assert one == three


class Killed(BaseException):
    """Stands for a signal: no handler catches it."""


def test_a_killed_run_goes_on_where_it_was(tmp_path, items, make_scorer):
    def die(prompt: str, response: str) -> float:
        if prompt == "question 0700":
            raise Killed
        return float(len(response))

    with pytest.raises(Killed):
        score_catalog(items, make_scorer(die), tmp_path, model_identity="m", shard=Shard())
    [part] = (tmp_path / PARTS_DIRECTORY).rglob("part-*.jsonl")
    # The kill also cut the last line.
    part.write_bytes(part.read_bytes()[:-7])
    done = len(part.read_text().splitlines()) - 1
    assert 600 < done < 700

    scorer = make_scorer()
    table = score_catalog(items, scorer, tmp_path, model_identity="m", shard=Shard())
    assert len(scorer.groups) == 1001 - done
    whole = tmp_path / "whole"
    expected = score_catalog(items, make_scorer(), whole, model_identity="m", shard=Shard())
    assert table == expected
    assert (tmp_path / "items.jsonl").read_bytes() == (whole / "items.jsonl").read_bytes()


def test_a_finished_run_scores_nothing_again(tmp_path, items, make_scorer):
    score_catalog(items, make_scorer(), tmp_path, model_identity="m", shard=Shard())
    scorer = make_scorer()
    score_catalog(items, scorer, tmp_path, model_identity="m", shard=Shard())
    assert scorer.groups == []


def test_another_model_or_text_is_never_mixed_in(tmp_path, items, make_scorer):
    score_catalog(items, make_scorer(), tmp_path, model_identity="m", shard=Shard())
    other = make_scorer(lambda prompt, response: 0.0)
    table = score_catalog(items, other, tmp_path, model_identity="n", shard=Shard())
    assert {line.scores for line in table["judgebench"].values()} == {(0.0, 0.0)}
    changed = [("judgebench", replace(items[0][1], responses=("a", "b"))), *items[1:]]
    assert run_identity(changed, "m") != run_identity(items, "m")


def test_a_damaged_part_is_refused_with_its_line(tmp_path, items, make_scorer):
    score_catalog(items, make_scorer(), tmp_path, model_identity="m", shard=Shard())
    [part] = (tmp_path / PARTS_DIRECTORY).rglob("part-*.jsonl")
    part.write_text("{broken\n" + part.read_text())
    with pytest.raises(InputError, match=r"part-00000-of-00001.jsonl:1: damaged"):
        score_catalog(items, make_scorer(), tmp_path, model_identity="m", shard=Shard())


def test_items_of_one_prompt_share_a_group_and_equal_responses_a_score(make_item, make_scorer):
    prompt = user("same question")
    pairs = [
        make_item("0", prompt=prompt, responses=("aa", "b")),
        make_item("1", prompt=prompt, responses=("b", "cccc")),
        make_item("2"),
    ]
    scorer = make_scorer()
    lines = score_items([("rmb", item) for item in pairs], scorer)
    assert scorer.groups[0].responses == ("aa", "b", "cccc")
    assert len(scorer.groups) == 2
    assert [line.scores for line in lines[:2]] == [(2.0, 1.0), (1.0, 4.0)]
    assert [line.id for line in lines] == ["0", "1", "2"]
    assert lines[1].response_tokens == (1, 4)


def test_a_cut_prompt_does_not_depend_on_the_items_beside_it(make_item, make_scorer):
    prompt = user("p" * 20)
    short = make_item("short", prompt=prompt, responses=("a", "bb"))
    long = make_item("long", prompt=prompt, responses=("c" * 15, "d"))
    together = score_items([("rmb", short), ("rmb", long)], make_scorer(max_characters=25))
    alone = [
        score_items([("rmb", item)], make_scorer(max_characters=25))[0] for item in (short, long)
    ]
    assert together == alone
    assert [line.cut for line in together] == [False, True]


def test_a_checkpoints_identity_follows_its_bytes_and_how_it_is_run(tmp_path):
    (tmp_path / "weights").write_bytes(b"one")
    first = checkpoint_identity(tmp_path, dtype="float32")
    assert checkpoint_identity(tmp_path, dtype="float32") == first
    assert checkpoint_identity(tmp_path, dtype="bfloat16") != first
    (tmp_path / "weights").write_bytes(b"two")
    assert checkpoint_identity(tmp_path, dtype="float32") != first
