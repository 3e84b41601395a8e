"""Which answers make pairs, and why others do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline import sql
from data_pipeline.apply_removals import GroupMask
from data_pipeline.config import FilterConfig, PairingConfig, PairPolicy
from data_pipeline.group_tables import CANDIDATES_SCHEMA, attach_text, margin_buckets
from data_pipeline.keyed_hash import order_keys
from data_pipeline.removals import REMOVALS_SCHEMA
from data_pipeline.sources.posts import POSTS_SCHEMA
from data_pipeline.stages.arrange import ARRANGED_SCHEMA
from data_pipeline.stages.pair import PairedPosts, narrow_posts, pair_answers, pair_posts
from worldpm.artifacts import StageCounts

NOW = datetime(2020, 1, 1)


@dataclass(frozen=True)
class Paired:
    """What pairing made of some posts."""

    groups: dict[int, dict[str, Any]]
    counts: StageCounts


def _pair(
    posts: list[dict[str, Any]],
    filters: FilterConfig | None = None,
    seed: int = 0,
    **pairing: Any,
) -> Paired:
    tables, counts = _tables(posts, filters, seed, **pairing)
    rows = [row for part in tables for row in part.to_pylist()]
    return Paired({row["question_id"]: row for row in rows}, counts)


def _tables(
    posts: list[dict[str, Any]],
    filters: FilterConfig | None = None,
    seed: int = 0,
    **pairing: Any,
) -> tuple[list[pa.Table], StageCounts]:
    paired = _pair_posts(posts, filters, seed, **pairing)
    return list(attach_text(paired.posts, paired.found)), paired.counts["pair"]


def _pair_posts(
    posts: list[dict[str, Any]],
    filters: FilterConfig | None = None,
    seed: int = 0,
    **pairing: Any,
) -> PairedPosts:
    table = pa.Table.from_pylist(posts, schema=POSTS_SCHEMA)
    keys = [order_keys(np.array([post["question_id"]]), post["site"], seed)[0] for post in posts]
    table = table.append_column("order_key", pa.array(keys, pa.uint64())).cast(ARRANGED_SCHEMA)
    ends = {"a.b": NOW, "meta.a.b": NOW}
    settings = (filters or FilterConfig(), PairingConfig(**pairing))
    with sql.connect(500, Path("unused")) as connection:
        paired = pair_posts(
            table, lambda rows: pair_answers(connection, narrow_posts(rows, ends), *settings)
        )
    for name, counts in paired.counts.items():
        counts.check(name)
    assert paired.counts["normalise"].rows_in == paired.counts["pair"].rows_out
    return paired


def _question(post_id: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "site": "a.b",
        "post_id": post_id,
        "post_type": 1,
        "question_id": post_id,
        "net_votes": 0,
        "created": NOW - timedelta(days=100),
        "title": f"title {post_id}",
        "body": f"body {post_id}",
        "author": "asker",
        "is_closed": False,
        "is_community_wiki": False,
        "licence": "CC BY-SA 4.0",
        **changes,
    }


def _answer(post_id: int, votes: int, question: int = 1, **changes: Any) -> dict[str, Any]:
    return _question(
        post_id,
        post_type=2,
        question_id=question,
        net_votes=votes,
        title=None,
        author=f"user {post_id}",
        created=NOW - timedelta(days=50),
        **changes,
    )


def _compared(group: dict[str, Any]) -> set[tuple[int, int]]:
    """Pairs as (id of chosen, id of rejected)."""
    ids = [response["response_id"] for response in group["responses"]]
    return {(ids[pair["chosen"]], ids[pair["rejected"]]) for pair in group["pairs"]}


def test_score_is_net_votes_plus_one_for_the_accepted_answer() -> None:
    posts = [_question(accepted_answer_id=3), _answer(2, 5), _answer(3, 5)]
    group = _pair(posts).groups[1]
    assert [response["score"] for response in group["responses"]] == [5, 6]
    assert [response["net_votes"] for response in group["responses"]] == [5, 5]
    assert [response["is_accepted"] for response in group["responses"]] == [False, True]
    assert _compared(group) == {(3, 2)}
    assert group["pairs"][0]["margin"] == 1


def test_answers_with_equal_scores_make_no_pair() -> None:
    paired = _pair([_question(), _answer(2, 4), _answer(3, 4)])
    assert paired.groups == {}
    assert paired.counts.dropped == {"equal_scores": 3}


def test_posts_that_make_no_pair_are_counted_by_reason() -> None:
    paired = _pair(
        [
            *(_question(1), _answer(2, 4)),
            *(_question(3),),
            *(_answer(4, 1, question=99), _answer(5, 2, question=99)),
            *(_question(6), _answer(7, 1, question=6), _answer(8, 2, question=6)),
            _answer(8, 2, question=6),
        ]
    )
    assert paired.counts.dropped == {
        "single_answer": 2,
        "no_answer": 1,
        "orphan_answer": 2,
        "repeated_post": 1,
    }
    assert list(paired.groups) == [6]


def test_a_group_carries_prompt_text_and_origin() -> None:
    group = _pair([_question(), _answer(2, 1), _answer(3, 15)]).groups[1]
    assert group["group_id"] == "a.b/1"
    assert group["prompt"] == [{"role": "user", "content": "title 1\n\nbody 1"}]
    assert [response["content"] for response in group["responses"]] == ["body 2", "body 3"]
    assert group["responses"][0]["author"] == "user 2"
    assert group["responses"][0]["licence"] == "CC BY-SA 4.0"
    assert group["margin_buckets"] == ["11+"]
    assert group["split"] is None


def test_margin_buckets_are_the_papers() -> None:
    margins = np.array([1, 2, 3, 5, 6, 10, 11, 500])
    assert margin_buckets(margins).to_pylist() == [
        *("1-2", "1-2", "3-5", "3-5", "6-10", "6-10", "11+", "11+")
    ]


SITE = [_question(), _answer(2, 9), _answer(3, 5), _answer(4, 5), _answer(5, 0)]
ALL_PAIRS = {(2, 3), (2, 4), (2, 5), (3, 5), (4, 5)}


def test_policies_choose_the_pairs_that_their_names_say() -> None:
    assert _compared(_pair(SITE, policy="all").groups[1]) == ALL_PAIRS
    assert _compared(_pair(SITE, policy="top_vs_rest").groups[1]) == {(2, 3), (2, 4), (2, 5)}
    adjacent = _compared(_pair(SITE, policy="adjacent").groups[1])
    assert adjacent in ({(2, 3), (4, 5)}, {(2, 4), (3, 5)})
    (pair,) = _compared(_pair(SITE).groups[1])
    assert pair in ALL_PAIRS


def test_a_pair_needs_the_least_margin() -> None:
    assert _compared(_pair(SITE, policy="all", min_margin=5).groups[1]) == {(2, 5), (3, 5), (4, 5)}


def test_a_larger_cap_only_adds_pairs() -> None:
    chosen = [
        _compared(_pair(SITE, policy="all", max_pairs_per_question=k).groups[1])
        for k in range(1, 6)
    ]
    assert [len(pairs) for pairs in chosen] == [1, 2, 3, 4, 5]
    assert all(low < high for low, high in pairwise(chosen))


def test_the_random_pair_is_uniform_over_the_candidates() -> None:
    """Five candidates, 500 questions: each is drawn about 100 times (5 sigma are 45)."""
    posts = [
        {**post, "post_id": post["post_id"] + 10 * i, "question_id": 1 + 10 * i}
        for i in range(500)
        for post in SITE
    ]
    groups = _pair(posts).groups
    draws = Counter(
        (chosen - question + 1, rejected - question + 1)
        for question, group in groups.items()
        for chosen, rejected in _compared(group)
    )
    assert set(draws) == ALL_PAIRS
    assert all(55 < count < 145 for count in draws.values())


@pytest.mark.parametrize(
    ("filters", "changed", "reason", "dropped"),
    [
        ({"closed_questions": "drop"}, {"is_closed": True}, "closed_question", 3),
        ({"community_wiki": "drop"}, {"is_community_wiki": True}, "community_wiki", 3),
        ({"deleted_authors": "drop"}, {"author": None}, "deleted_author", 3),
        ({"meta_sites": "only"}, {}, "no_meta_site", 3),
    ],
)
def test_a_filtered_question_takes_its_answers_along(
    filters: dict[str, Any], changed: dict[str, Any], reason: str, dropped: int
) -> None:
    posts = [_question(**changed), _answer(2, 1), _answer(3, 5)]
    assert _pair(posts).counts.dropped == {}
    assert _pair(posts, FilterConfig(**filters)).counts.dropped == {reason: dropped}


@pytest.mark.parametrize(
    ("filters", "changed", "reason"),
    [
        ({"community_wiki": "drop"}, {"is_community_wiki": True}, "community_wiki"),
        ({"deleted_authors": "drop"}, {"author": None}, "deleted_author"),
        ({"self_answers": "drop"}, {"author": "asker"}, "self_answer"),
        ({"min_votes": 1}, {"net_votes": 0}, "too_few_votes"),
        ({"min_age_days": 10.0}, {"created": NOW - timedelta(days=9)}, "too_young"),
    ],
)
def test_a_filtered_answer_is_left_out_alone(
    filters: dict[str, Any], changed: dict[str, Any], reason: str
) -> None:
    posts = [_question(), _answer(2, 1), _answer(3, 5), {**_answer(4, 9), **changed}]
    assert _pair(posts).counts.dropped == {}
    paired = _pair(posts, FilterConfig(**filters))
    assert paired.counts.dropped == {reason: 1}
    assert len(paired.groups[1]["responses"]) == 2


def test_meta_sites_can_be_left_out() -> None:
    posts = [{**post, "site": "meta.a.b"} for post in SITE] + SITE
    groups = _pair(posts, FilterConfig(meta_sites="drop"))
    assert groups.counts.dropped == {"meta_site": 5}
    assert [group["is_meta"] for group in groups.groups.values()] == [False]


VOTES = st.lists(st.lists(st.integers(-3, 5), max_size=6), min_size=1, max_size=5)
POLICIES = st.sampled_from(["one_random_pair", "all", "adjacent", "top_vs_rest"])


@given(VOTES, POLICIES, st.integers(1, 3), st.integers(0, 3), st.integers(1, 4))
def test_no_pair_crosses_questions_and_the_higher_score_is_chosen(
    votes: list[list[int]], policy: PairPolicy, min_margin: int, bonus: int, cap: int
) -> None:
    posts: list[dict[str, Any]] = []
    for index, scores in enumerate(votes):
        first = 100 * index + 1
        posts.append(_question(first, accepted_answer_id=first + 1))
        posts += [_answer(first + 1 + i, s, first) for i, s in enumerate(scores)]
    paired = _pair(
        posts,
        policy=policy,
        min_margin=min_margin,
        accepted_bonus=bonus,
        max_pairs_per_question=cap,
    )
    for question, group in paired.groups.items():
        responses = group["responses"]
        assert all(question < response["response_id"] < question + 100 for response in responses)
        assert 1 <= len(group["pairs"]) <= (1 if policy == "one_random_pair" else cap)
        for pair in group["pairs"]:
            chosen, rejected = responses[pair["chosen"]], responses[pair["rejected"]]
            assert chosen["score"] - rejected["score"] == pair["margin"] >= min_margin
    expected = {
        100 * index + 1
        for index, scores in enumerate(votes)
        if _best_margin(scores, bonus) >= min_margin
    }
    if policy != "adjacent":  # neighbours may be closer than the margin
        assert set(paired.groups) == expected


def test_a_post_without_text_leaves_its_group() -> None:
    empty: dict[str, Any] = {"body": "<p> </p>"}
    posts = [_question(), _answer(2, 1), _answer(3, 2), _answer(4, 3, **empty)]
    posts += [_question(5), _answer(6, 1, question=5, **empty), _answer(7, 2, question=5)]
    posts += [_question(8, **empty), _answer(9, 1, question=8), _answer(10, 2, question=8)]
    paired = _pair_posts(posts)
    assert paired.counts["pair"].dropped == {}
    counts = paired.counts["normalise"]
    assert (counts.rows_in, counts.rows_out) == (10, 3)
    assert counts.dropped == {"no_text": 3, "no_pair_left": 4}
    assert list(_pair(posts).groups) == [1]


REMOVALS = st.sets(st.integers(0, 29), max_size=15)
"""Numbers of answers: 6 q + i is the i-th of question q."""


def _voted(votes: list[list[int]]) -> list[dict[str, Any]]:
    posts: list[dict[str, Any]] = []
    for index, scores in enumerate(votes):
        first = 100 * index + 1
        posts.append(_question(first))
        posts += [_answer(first + 1 + i, s, first) for i, s in enumerate(scores)]
    return posts


def _id_of(number: int) -> int:
    return 100 * (number // 6) + 2 + number % 6


@settings(max_examples=12)
@given(VOTES, POLICIES, st.integers(1, 4), REMOVALS)
def test_pairs_beside_posts_without_text_are_those_without_these_posts(
    votes: list[list[int]], policy: PairPolicy, cap: int, textless: set[int]
) -> None:
    posts = _voted(votes)
    ids = {_id_of(number) for number in textless}
    beside = [{**post, "body": "<p></p>"} if post["post_id"] in ids else post for post in posts]
    with_text = [post for post in posts if post["post_id"] not in ids]
    pairing = {"policy": policy, "max_pairs_per_question": cap}
    assert _pair(beside, **pairing).groups == _pair(with_text, **pairing).groups


@settings(max_examples=12)
@given(VOTES, POLICIES, st.integers(1, 4), REMOVALS)
def test_pairs_after_a_removal_are_those_that_the_rest_alone_would_give(
    votes: list[list[int]], policy: PairPolicy, cap: int, removed: set[int]
) -> None:
    posts = _voted(votes)
    gone = {_id_of(number) for number in removed}
    rest = _pair(
        [post for post in posts if post["post_id"] not in gone],
        policy=policy,
        max_pairs_per_question=cap,
    )
    pairing = {"policy": policy, "max_pairs_per_question": cap}
    tables, counts = _tables(posts, **pairing)
    groups = pa.concat_tables([CANDIDATES_SCHEMA.empty_table(), *tables])
    mask = GroupMask(groups, PairingConfig(**pairing))
    removals = [
        {"site": "a.b", "question_id": post - (post - 1) % 100, "response_id": post, "reason": "x"}
        for post in gone
    ]
    cleaned = mask.remove(pa.Table.from_pylist(removals, schema=REMOVALS_SCHEMA))
    cleaned.check("cleaning")
    assert (cleaned.rows_in, cleaned.rows_out) == (counts.rows_out, mask.num_posts())
    left = {row["question_id"]: row for row in mask.kept().to_pylist()}
    assert left == rest.groups


def test_a_question_stays_while_two_of_its_answers_can_be_compared() -> None:
    """Whichever pair was drawn, one of the three answers can go without the group."""
    posts = [_question(), _answer(2, 1), _answer(3, 2), _answer(4, 3)]
    for gone in (2, 3, 4):
        (groups,), _ = _tables(posts)
        mask = GroupMask(groups, PairingConfig())
        row = {"site": "a.b", "question_id": 1, "response_id": gone, "reason": "copy"}
        counts = mask.remove(pa.Table.from_pylist([row], schema=REMOVALS_SCHEMA))
        assert counts.dropped == {"copy": 1}
        (group,) = mask.kept().to_pylist()
        (pair,) = _compared(group)
        assert gone not in pair
        assert len(group["margin_buckets"]) == 1


def _best_margin(votes: list[int], bonus: int) -> int:
    scores = [vote + (bonus if i == 0 else 0) for i, vote in enumerate(votes)]
    return max(scores) - min(scores) if scores else 0
