"""What shares 13 words in a row with a benchmark is found, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_pipeline.config import DecontaminationConfig
from data_pipeline.removals import read_removals
from data_pipeline.stage import Stage
from data_pipeline.stages.decontaminate import decontamination_stages
from worldpm.artifacts import Manifest
from worldpm.errors import InputError
from worldpm.group_files import write_group_file
from worldpm.schema import Group, Message

MakeGroups = Callable[..., Any]


def write_benchmark(path: Path, prompt: str, *responses: str) -> Path:
    write_group_file(path, [Group("1", (Message("user", prompt),), responses)])
    return path


def words_from(start: int, count: int) -> str:
    return " ".join(f"w{number}" for number in range(start, start + count))


def run(tmp_path: Path, pair: Stage, run_stages: Callable[..., None], **benchmarks: Path) -> Stage:
    config = DecontaminationConfig(benchmarks=benchmarks)
    stages = decontamination_stages(tmp_path / "work", pair, config)
    run_stages(*stages)
    return stages[-1]


def test_a_question_takes_its_group_away_and_an_answer_only_itself(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    first = write_benchmark(tmp_path / "first.jsonl", words_from(0, 30), "too short")
    second = write_benchmark(tmp_path / "second.jsonl", "short", words_from(100, 13))
    groups = given_groups(
        [
            [
                group_row("a", 1, f"Look: {words_from(10, 13)}!", ["yes", "no"]),
                group_row("a", 2, words_from(10, 12) + " else", [words_from(99, 20), "no"]),
            ],
            [group_row("b", 3, "short too short", ["yes", words_from(100, 12)])],
        ]
    )
    stage = run(tmp_path, groups, run_stages, first=first, second=second)
    assert read_removals([stage.directory]).to_pylist() == [
        {"site": "a", "question_id": 1, "response_id": None, "reason": "overlaps_first"},
        {"site": "a", "question_id": 2, "response_id": 2000, "reason": "overlaps_second"},
    ]
    removed = pq.read_table(stage.directory / "removed").to_pylist()
    assert [row["shared_words"] for row in removed] == [words_from(10, 13), words_from(100, 13)]
    assert removed[1]["content"] == words_from(99, 20)
    assert [row["benchmarks"] for row in removed] == [["first"], ["second"]]


def test_hits_are_reported_for_each_benchmark(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    text = words_from(0, 20)
    first = write_benchmark(tmp_path / "first.jsonl", text)
    second = write_benchmark(tmp_path / "second.jsonl", text, "short")
    groups = given_groups([[group_row("a", 1, text, [text, "no"])]])
    stage = run(tmp_path, groups, run_stages, first=first, second=second)
    notes = Manifest.read(stage.directory).counts["notes"]
    assert notes == [
        {"benchmark": "first", "questions": 1, "answers": 1},
        {"benchmark": "second", "questions": 1, "answers": 1},
    ]
    index_notes = Manifest.read(stage.upstream()[1].directory).counts["notes"]
    assert index_notes == [
        {"benchmark": "first", "num_texts": 1, "num_too_short": 0, "num_ngrams": 8},
        {"benchmark": "second", "num_texts": 2, "num_too_short": 1, "num_ngrams": 8},
    ]


def test_every_planted_span_is_found_and_no_other(
    tmp_path: Path, group_row: MakeGroups, given_groups: MakeGroups, run_stages: MakeGroups
) -> None:
    rng = Random(3)

    def random_text(count: int) -> list[str]:
        return [f"w{rng.randrange(50)}" for _ in range(count)]

    benchmark = random_text(400)
    known = {tuple(benchmark[i : i + 13]) for i in range(len(benchmark) - 12)}
    rows, expected = [], []
    for number in range(300):
        text = random_text(60)
        if number % 3 == 0:
            start, length = rng.randrange(380), rng.choice([12, 13, 20])
            text[20 : 20 + length] = benchmark[start : start + length]
        rows.append(group_row("a", number, " ".join(text), ["yes", "no"]))
        if any(tuple(text[i : i + 13]) in known for i in range(len(text) - 12)):
            expected.append(number)
    path = write_benchmark(tmp_path / "b.jsonl", " ".join(benchmark))
    stage = run(tmp_path, given_groups([rows[:100], rows[100:]]), run_stages, bench=path)
    assert read_removals([stage.directory])["question_id"].to_pylist() == expected
    assert len(expected) > 30


def test_a_missing_benchmark_file_is_named(tmp_path: Path, given_groups: MakeGroups) -> None:
    config = DecontaminationConfig(benchmarks={"gone": tmp_path / "gone.jsonl"})
    stages = decontamination_stages(tmp_path / "work", given_groups([[]]), config)
    with pytest.raises(InputError, match=r"gone\.jsonl"):
        _ = stages[-1].fingerprint


def test_a_benchmark_name_must_be_fit_for_a_file(tmp_path: Path, given_groups: MakeGroups) -> None:
    config = DecontaminationConfig(benchmarks={"a/b": tmp_path / "x.jsonl"})
    with pytest.raises(InputError, match="a/b"):
        decontamination_stages(tmp_path / "work", given_groups([[]]), config)
