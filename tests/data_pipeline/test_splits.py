"""Cleaning, splits, statistics and attribution of groups."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.apply_removals import GroupMask
from data_pipeline.config import PairingConfig, SplitConfig
from data_pipeline.group_tables import CANDIDATES_SCHEMA
from data_pipeline.removals import CLUSTERS_SCHEMA, REMOVALS_SCHEMA
from data_pipeline.stages.attribute import attribution
from data_pipeline.stages.split import assign_splits
from data_pipeline.statistics import GroupStatistics
from worldpm.schema import Group

ALL_PAIRS = PairingConfig(policy="all", max_pairs_per_question=None)
THIRDS = SplitConfig(validation=0.3, test=0.3)


def _group(
    number: int, num_responses: int = 3, site: str = "a.b", **changes: Any
) -> dict[str, Any]:
    """Responses 0, 1, … with scores equal to their index, and all pairs."""
    return {
        "group_id": f"{site}/{number}",
        "site": site,
        "question_id": number,
        "prompt": [{"role": "user", "content": f"question {number}"}],
        "responses": [
            {
                "response_id": 1000 * number + index,
                "content": "x" * (index + 1),
                "score": index,
                "net_votes": index,
                "is_accepted": False,
                "author": None if index == 0 else f"name {index}",
                "created": datetime(2015, 1, 1),
                "licence": "CC BY-SA 3.0",
            }
            for index in range(num_responses)
        ],
        "pairs": [
            {"chosen": i, "rejected": j, "margin": i - j, "weight": 1.0}
            for i in range(num_responses)
            for j in range(i)
        ],
        "margin_buckets": ["1-2"] * (num_responses * (num_responses - 1) // 2),
        "is_meta": False,
        "question_author": "77",
        "question_licence": "CC BY-SA 3.0",
        "order_key": number,
        **changes,
    }


def _groups(*groups: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(groups), schema=CANDIDATES_SCHEMA)


def _removals(*rows: tuple[int, int | None, str]) -> pa.Table:
    entries = [
        {"site": "a.b", "question_id": q, "response_id": r, "reason": reason}
        for q, r, reason in rows
    ]
    return pa.Table.from_pylist(entries, schema=REMOVALS_SCHEMA)


def test_a_removed_response_takes_its_pairs_and_the_rest_is_renumbered() -> None:
    mask = GroupMask(_groups(_group(1), _group(2)), ALL_PAIRS)
    counts = mask.remove(_removals((1, 1000, "copy")))
    counts.check("cleaning")
    assert counts.dropped == {"copy": 1}
    first, second = mask.kept().to_pylist()
    assert [r["score"] for r in first["responses"]] == [1, 2]
    assert [(p["chosen"], p["rejected"]) for p in first["pairs"]] == [(1, 0)]
    assert first["margin_buckets"] == ["1-2"]
    assert second == _groups(_group(2)).to_pylist()[0]


def test_a_group_without_a_pair_goes_as_a_whole() -> None:
    mask = GroupMask(_groups(_group(1, 2), _group(2)), ALL_PAIRS)
    counts = mask.remove(_removals((1, 1001, "copy")))
    assert counts.dropped == {"copy": 1, "no_pair_left": 2}
    assert (counts.rows_in, counts.rows_out) == (7, 4)
    assert mask.kept()["question_id"].to_pylist() == [2]


def test_steps_after_each_other_count_each_post_once() -> None:
    mask = GroupMask(_groups(_group(1), _group(2), _group(3)), ALL_PAIRS)
    first = mask.remove(_removals((1, None, "twin"), (2, 2000, "copy")))
    second = mask.remove(_removals((1, 1000, "late"), (2, 2000, "late"), (3, 3002, "late")))
    assert first.dropped == {"twin": 4, "copy": 1}
    assert second.dropped == {"late": 1}
    assert second.rows_in == first.rows_out
    assert (second.rows_out, mask.num_posts()) == (6, 6)


IDS = st.lists(st.integers(1, 12), unique=True, min_size=1, max_size=8)


@settings(max_examples=20)
@given(IDS, st.lists(st.tuples(st.integers(1, 12), st.none() | st.integers(0, 3)), max_size=12))
def test_whatever_is_removed_scores_order_the_pairs_that_are_left(
    questions: list[int], removed: list[tuple[int, int | None]]
) -> None:
    mask = GroupMask(_groups(*(_group(number) for number in questions)), ALL_PAIRS)
    rows = [(q, None if i is None else 1000 * q + i, "gone") for q, i in removed]
    counts = mask.remove(_removals(*rows))
    counts.check("cleaning")
    gone = {(q, r) for q, r, _ in rows}
    for row in mask.kept().to_pylist():
        group = Group.from_row(row)
        assert (row["question_id"], None) not in gone
        assert not gone & {(row["question_id"], r["response_id"]) for r in row["responses"]}
        scores = [response["score"] for response in row["responses"]]
        assert group.pairs
        assert all(scores[p.chosen] - scores[p.rejected] == p.margin > 0 for p in group.pairs)
        assert group.swap().swap() == group
        assert all(p.chosen < p.rejected for p in group.swap().pairs)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 9))
def test_no_cluster_stands_in_two_splits(clusters: list[int], seed: int) -> None:
    groups = _groups(*(_group(number, 2) for number in range(len(clusters))))
    table = _clusters({n: f"cluster {c}" for n, c in enumerate(clusters)})
    final = assign_splits(groups, table, THIRDS, seed)
    splits: dict[str, set[str]] = {}
    for row in final.to_pylist():
        splits.setdefault(row["cluster"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    again = assign_splits(groups.slice(len(clusters) // 2), table, THIRDS, seed)
    assert again.to_pylist() == final.slice(len(clusters) // 2).to_pylist()


def _clusters(cluster_of: dict[int, str]) -> pa.Table:
    rows = [{"site": "a.b", "question_id": q, "cluster": c} for q, c in cluster_of.items()]
    return pa.Table.from_pylist(rows, schema=CLUSTERS_SCHEMA)


def test_splits_have_the_configured_shares() -> None:
    """2,000 draws: 5 sigma of a share of 0.3 are 0.05."""
    groups = _groups(*(_group(number, 2) for number in range(2000)))
    final = assign_splits(groups, CLUSTERS_SCHEMA.empty_table(), THIRDS, 0)
    shares = Counter(final["split"].to_pylist())
    assert shares["validation"] / 2000 == pytest.approx(0.3, abs=0.05)
    assert shares["test"] / 2000 == pytest.approx(0.3, abs=0.05)


def test_a_held_out_site_takes_the_clusters_it_shares_along() -> None:
    config = SplitConfig(validation=0.0, test=0.0, held_out_sites=("c.d",))
    groups = _groups(_group(1), _group(2), _group(3, site="c.d"))
    clusters = pa.Table.from_pylist(
        [
            {"site": "a.b", "question_id": 1, "cluster": "one"},
            {"site": "c.d", "question_id": 3, "cluster": "one"},
        ],
        schema=CLUSTERS_SCHEMA,
    )
    final = assign_splits(groups, clusters, config, 0)
    assert final["split"].to_pylist() == ["test", "train", "test"]


def test_statistics_add_up_however_the_groups_are_cut() -> None:
    groups = _groups(*(_group(number, 2 + number % 3) for number in range(1, 10)))
    groups = assign_splits(groups, CLUSTERS_SCHEMA.empty_table(), THIRDS, 0)
    whole = GroupStatistics.of(groups).to_json()
    parts = [GroupStatistics.of(groups.slice(i, 4)).to_json() for i in (0, 4, 8)]
    assert GroupStatistics.sum(parts).to_json() == whole
    assert whole["answers"] == {"2": 3, "3": 3, "4": 3}
    assert whole["by_site"]["a.b"]["pairs"] == 3 * (1 + 3 + 6)
    # Longer answers have the higher score here.
    assert whole["longer_is_chosen"] == {"chosen": 30, "equal": 0, "rejected": 0}
    assert whole["deleted_authors"] == 9
    assert whole["response_length"] == {"0": 9, "1": 15, "2": 3}


def test_attribution_names_every_post_and_links_users_by_id() -> None:
    (row,) = attribution(_groups(_group(5, 2))).to_pylist()
    assert row["url"] == "https://a.b/questions/5"
    assert row["author_url"] == "https://a.b/users/77"
    deleted, named = row["answers"]
    assert (deleted["author"], deleted["author_url"]) == (None, None)
    assert named["url"] == "https://a.b/a/5001"
    assert (named["author"], named["author_url"]) == ("name 1", None)
    assert named["licence"] == "CC BY-SA 3.0"
