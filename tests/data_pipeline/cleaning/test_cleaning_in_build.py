"""What the cleaning stages find is what the build publishes, on a dump with planted near-copies."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_pipeline.config import DataConfig
from data_pipeline.ngrams import jaccard, shingle, words
from data_pipeline.pipeline import build
from data_pipeline.sources.generated import GenerateConfig, generate_dump
from worldpm.artifacts import read_json
from worldpm.group_files import write_group_file
from worldpm.schema import Group, Message

NUM_POSTS = 1_500


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("cleaning") / "dump"
    generate_dump(
        GenerateConfig(
            output_dir=directory,
            num_posts=NUM_POSTS,
            archive_format="xml",
            with_votes_file=False,
            num_test_items=2,
            near_copy_share=0.2,
        )
    )
    return directory


def build_groups(dump: Path, output_dir: Path, **sections: Any) -> dict[str, dict[str, Any]]:
    """The groups of a finished build by their id."""
    config = DataConfig.model_validate(
        {
            "source": {"path": dump},
            "output_dir": output_dir,
            "tokenizer": {"vocab_size": 300, "training_megabytes": 0.1},
            "split": {"validation": 0.3, "test": 0.3},
            "pairing": {"policy": "all"},
            "executor": {"workers": 1},
            **sections,
        }
    )
    build(config)
    rows = [
        row for path in (output_dir / "groups").iterdir() for row in pq.read_table(path).to_pylist()
    ]
    return {row["group_id"]: row for row in rows}


@pytest.fixture(scope="module")
def groups(dump: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The groups with their near-copies, exact ones too."""
    output_dir = tmp_path_factory.mktemp("cleaning") / "out"
    return build_groups(dump, output_dir, deduplication={"enabled": False})


def test_no_near_copy_of_a_question_stands_in_another_split(
    dump: Path, groups: dict[str, dict[str, Any]]
) -> None:
    copies: dict[int, list[str]] = {}
    for row in pq.read_table(dump / "near_copies.parquet").to_pylist():
        group_id = f"{row['site']}/{row['question_id']}"
        if group_id in groups:
            copies.setdefault(row["original"], []).append(group_id)
    num_similar = num_sites = 0
    for group_ids in copies.values():
        sets = shingle([groups[name]["prompt"][0]["content"] for name in group_ids], 5)
        for first, second in combinations(range(len(group_ids)), 2):
            if jaccard(sets.set_of(first), sets.set_of(second)) < 0.8:
                continue
            one, other = groups[group_ids[first]], groups[group_ids[second]]
            assert one["cluster"] == other["cluster"]
            assert one["split"] == other["split"]
            num_similar += 1
            num_sites += one["site"] != other["site"]
    assert num_similar > 20
    assert num_sites > 5


def test_what_a_benchmark_holds_is_not_published(
    dump: Path, groups: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    long = [g for g in groups.values() if len(words(g["prompt"][0]["content"])) > 100]
    target = long[0]
    text = target["prompt"][0]["content"]
    benchmark = tmp_path / "bench.jsonl"
    write_group_file(benchmark, [Group("1", (Message("user", f"{text[60:400]}"),), ("a", "b"))])
    sections = {"decontamination": {"benchmarks": {"bench": benchmark}}}
    after = build_groups(dump, tmp_path / "after", **sections)
    assert target["group_id"] not in after
    known = set(shingle([text[60:400]], 13).of(0).tolist())
    for group in after.values():
        texts = [group["prompt"][0]["content"], *(r["content"] for r in group["responses"])]
        assert known.isdisjoint(shingle(texts, 13, whole_if_shorter=False).hashes_S.tolist())
    card = (tmp_path / "after" / "card.md").read_text()
    assert re.search(r"\| bench \| 3 \| 2 \| [1-9][0-9]* \| 0 \|", card)
    counts = read_json(tmp_path / "after" / "manifest.json")["counts"]
    assert counts["decontaminate"]["dropped"]["overlaps_bench"] >= 1
    steps = [step for step in counts.values() if isinstance(step, dict) and "rows_in" in step]
    assert all(s["rows_in"] == s["rows_out"] + sum(s["dropped"].values()) for s in steps)
