"""Near-duplicates are found across sites and buckets, whatever the order of the tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.config import NearDuplicatesConfig
from data_pipeline.removals import REMOVALS_SCHEMA, read_clusters, read_removals, removals_dir
from data_pipeline.stage import Stage
from data_pipeline.stages.near_duplicates import near_duplicate_stages

MakeGroups = Callable[..., Any]


def text_of(*numbers: int) -> str:
    return " ".join(f"word{number}" for number in numbers)


def text_with_replaced(text: str, places: list[int], mark: str) -> str:
    found = text.split()
    for place in places:
        found[place] = f"{mark}{place}"
    return " ".join(found)


def similarity(num_words: int, replaced: int, n: int = 5) -> float:
    """Of words far enough apart, each replaced one touches n of the n-grams of both texts."""
    num_ngrams = num_words - n + 1
    return (num_ngrams - n * replaced) / (num_ngrams + n * replaced)


def clusters_of(stage: Stage) -> dict[tuple[str, int], str]:
    rows = read_clusters([stage.directory]).to_pylist()
    return {(row["site"], row["question_id"]): row["cluster"] for row in rows}


def removals_of(stage: Stage) -> list[int]:
    return read_removals([stage.directory])["response_id"].to_pylist()


def find(tmp_path: Path, pair: Stage, run: Callable[..., None], **settings: Any) -> Stage:
    config = NearDuplicatesConfig(num_bands=20, rows_per_band=6, **settings)
    stages = near_duplicate_stages(tmp_path / "work", pair, config, memory_mb=100)
    run(*stages)
    return stages[-1]


def test_similar_questions_of_two_sites_form_a_cluster(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    question = text_of(*range(100))
    near = text_with_replaced(question, [20], "new")
    far = text_with_replaced(question, list(range(5, 96, 6)), "far")
    groups = given_groups(
        [
            [group_row("a", 1, question, ["x y z", "p q r"]), group_row("a", 2, far, ["k", "l"])],
            [group_row("b", 1, near, ["u v w", "s t"]), group_row("b", 2, "other words", ["m"])],
        ]
    )
    found = find(tmp_path, groups, run_stages)
    assert clusters_of(found) == {("a", 1): "a/1", ("b", 1): "a/1"}
    assert removals_of(found) == []


def test_of_similar_answers_to_one_cluster_the_best_voted_stays(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    question, answer = text_of(*range(60)), text_of(*range(500, 600))
    variants = [text_with_replaced(answer, [place], "v") for place in (10, 50)]
    groups = given_groups(
        [
            [group_row("a", 1, question, [answer, variants[0]], scores=[3, 8])],
            [group_row("b", 7, question, [variants[1], "quite another answer"], scores=[5, 0])],
            [group_row("c", 9, text_of(*range(200, 260)), [answer, "no"], scores=[1, 2])],
        ]
    )
    found = find(tmp_path, groups, run_stages)
    # 1001 has the highest score; the same text under an unrelated question stays.
    assert removals_of(found) == [1000, 7000]


def test_a_copy_that_was_removed_before_is_not_the_one_that_stays(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    answer = text_of(*range(100))
    near = text_with_replaced(answer, [30], "v")
    groups = given_groups([[group_row("a", 1, "a question", [answer, near], scores=[9, 1])]])
    removed = [("a", 1, 1000, "earlier")]
    columns = [
        pa.array(c, f.type)
        for c, f in zip(zip(*removed, strict=True), REMOVALS_SCHEMA, strict=True)
    ]
    folder = removals_dir(groups.directory)
    folder.mkdir()
    pq.write_table(pa.table(columns, schema=REMOVALS_SCHEMA), folder / "x.parquet")
    config = NearDuplicatesConfig(num_bands=20, rows_per_band=6)
    stages = near_duplicate_stages(
        tmp_path / "work", groups, config, memory_mb=100, before=(groups,)
    )
    run_stages(*stages)
    assert removals_of(stages[-1]) == []


def test_a_question_never_meets_an_answer_with_its_text(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    text = text_of(*range(50))
    groups = given_groups([[group_row("a", 1, text, [text, "no"])]])
    found = find(tmp_path, groups, run_stages)
    assert clusters_of(found) == {}
    assert removals_of(found) == []


def test_bytes_do_not_depend_on_buckets_workers_or_passes(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    rng = Random(1)
    originals = [text_of(*(rng.randrange(300) for _ in range(60))) for _ in range(30)]
    rows = [
        group_row("s", number, text_with_replaced(original, [rng.randrange(5, 55)], f"n{number}"),
                  [original, text_with_replaced(original, [30], "k"), f"short {number}"])
        for number, original in enumerate(originals * 3)
    ]  # fmt: skip

    def digests(name: str, buckets: list[list[Any]], **options: Any) -> list[str]:
        groups = given_groups(buckets)
        config = NearDuplicatesConfig(num_bands=20, rows_per_band=6)
        stages = near_duplicate_stages(
            tmp_path / name, groups, config, memory_mb=options.pop("memory_mb", 100)
        )
        run_stages(*stages, **options)
        files = sorted(stages[-1].directory.rglob("*.parquet"))
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]

    whole = digests("whole", [rows])
    assert len(whole) == 2
    assert digests("parts", [rows[:7], [], rows[7:50], rows[50:]]) == whole
    assert digests("backwards", [rows[:40], rows[40:]], backwards=True) == whole


def test_planted_near_duplicates_are_found_at_every_level(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    num_words, levels = 200, [1, 2, 4] * 250
    assert [similarity(num_words, replaced) >= 0.8 for replaced in (4, 5)] == [True, False]
    rng = Random(1)
    rows: list[Any] = []
    for number, replaced in enumerate(levels):
        text = text_of(*(rng.randrange(100_000) for _ in range(num_words)))
        places = [10 + 40 * index + rng.randrange(30) for index in range(replaced)]
        rows.append(group_row("a", number, text, ["yes"]))
        rows.append(group_row("b", number, text_with_replaced(text, places, "new"), ["yes"]))
    clusters = clusters_of(find(tmp_path, given_groups([rows]), run_stages))
    found = np.array([clusters.get(("b", n)) == f"a/{n}" for n in range(len(levels))])
    for replaced in (1, 2, 4):
        assert found[np.array(levels) == replaced].mean() >= 0.98
    # After the exact check there is nothing else.
    assert len(clusters) == 2 * found.sum()


def test_pairs_below_the_threshold_are_not_joined(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    num_words = 200
    levels = [0, 2, 4, 6, 8, 12]
    rng = Random(5)
    rows: list[Any] = []
    for number, replaced in enumerate(levels * 20):
        text = text_of(*(rng.randrange(100_000) for _ in range(num_words)))
        places = [10 + 15 * index for index in range(replaced)]
        rows.append(group_row("a", number, text, ["yes"]))
        rows.append(group_row("b", number, text_with_replaced(text, places, "new"), ["yes"]))
    clusters = clusters_of(find(tmp_path, given_groups([rows]), run_stages, threshold=0.7))
    similarities = np.array([similarity(num_words, replaced) for replaced in levels * 20])
    found = np.array([("a", number) in clusters for number in range(len(similarities))])
    assert (found == (similarities >= 0.7)).all()
    assert any(similarities < 0.7)


def test_similarity_chains_make_one_cluster(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    text = text_of(*range(100))
    chain = [text_with_replaced(text, list(range(10, 10 + 20 * k, 20)), "z") for k in range(4)]
    assert all(first != second for first, second in pairwise(chain))
    rows = [group_row("a", number, question, ["yes"]) for number, question in enumerate(chain)]
    found = find(tmp_path, given_groups([rows]), run_stages)
    assert set(clusters_of(found).values()) == {"a/0"}
    assert len(clusters_of(found)) == 4
