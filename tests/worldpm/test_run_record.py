"""Run directories: what training writes is what the scaling harness reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from worldpm.errors import ArtifactError
from worldpm.run_record import (
    EvalRecord,
    RunRecord,
    TestSetResult,
    describe_environment,
    read_evals,
    read_metrics,
)

RECORD = RunRecord(
    name="tiny",
    status="completed",
    model_name="tiny",
    num_params=10,
    num_params_non_embedding=5,
    seed=0,
    step=3,
    num_steps=3,
    num_pairs=30,
    num_tokens=300,
    flops=1e6,
    pair_chain="00",
    data_fingerprint="11",
    world_size=1,
    wall_s=1.5,
    config={"name": "tiny"},
    environment={},
)
RESULT = TestSetResult("objective", 4, 4, 0.6, 0.1, 0.75, 0.2, 0, 0.5)


def test_a_run_record_is_read_back(tmp_path: Path) -> None:
    RECORD.write(tmp_path)
    assert RunRecord.read(tmp_path) == RECORD


def test_a_record_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"name": "x", "color": "red"}')
    with pytest.raises(ArtifactError, match=r"run\.json was written by another version"):
        RunRecord.read(tmp_path)


def test_evaluations_come_by_increasing_step(tmp_path: Path) -> None:
    for step in (100, 2, 10):
        EvalRecord(step, step * 2, step * 20, 0.0, {"set": RESULT}).write(tmp_path)
    records = list(read_evals(tmp_path))
    assert [record.step for record in records] == [2, 10, 100]
    assert records[0].test_sets == {"set": RESULT}


def test_a_metrics_line_cut_by_a_kill_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2')
    assert list(read_metrics(tmp_path)) == [{"step": 1}]


def test_the_environment_names_the_packages_that_decide_results() -> None:
    packages = describe_environment()["packages"]
    assert {"torch", "transformers", "numpy", "pyarrow"} <= set(packages)
