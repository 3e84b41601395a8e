"""A run that is killed, asked to stop or moved to other ranks goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from tests.distributed import join, run_ranks, start_ranks
from worldpm.run_record import RunRecord, read_metrics
from worldpm.training.checkpointing import list_checkpoints
from worldpm.training.stopping import EXIT_INTERRUPTED

SCRIPT = Path(__file__).parent / "on_ranks.py"
RECIPE = [
    "batch.pairs_per_step=24",
    "checkpoint.every_pairs=48",
    "evaluation.splits=[validation]",
    "evaluation.first_pairs=96",
]


def losses(run: Path) -> list[tuple[int, float, float]]:
    return [(line["step"], line["loss"], line["grad_norm"]) for line in read_metrics(run)]


def arguments(data: Path, run: Path, overrides: list[str] | None = None) -> dict:
    return {"data": str(data), "run": str(run), "overrides": [*RECIPE, *(overrides or [])]}


@pytest.fixture(scope="module")
def straight(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption, on one rank."""
    run = tmp_path_factory.mktemp("straight") / "run"
    assert run_ranks(SCRIPT, "train_once", **arguments(data_set, run)) == [0]
    return run


def start_and_wait_for(step: int, data: Path, run: Path, world_size: int, overrides=None) -> list:
    """Start a run and return once step `step` stands in its metrics."""
    processes = start_ranks(
        SCRIPT, "train_once", world_size, run.parent, **arguments(data, run, overrides)
    )
    deadline_s = time.monotonic() + 120
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < step:
        assert time.monotonic() < deadline_s, "the run did not get there"
        if not any(process.is_alive() for process in processes):
            break
        time.sleep(0.005)
    return processes


def test_kills_at_five_random_steps_leave_no_trace(straight, data_set, tmp_path):
    run = tmp_path / "run"
    last = len(losses(straight))
    for step in sorted(random.Random(7).sample(range(1, last), 5)):
        for process in start_and_wait_for(step, data_set, run, 1):
            process.kill()
            process.join()
    assert run_ranks(SCRIPT, "train_once", **arguments(data_set, run)) == [0]
    # The same ranks: the same bits, not merely close.
    assert losses(run) == losses(straight)
    ours, theirs = RunRecord.read(run), RunRecord.read(straight)
    assert ours.pair_chain == theirs.pair_chain
    assert (ours.num_pairs, ours.num_tokens) == (theirs.num_pairs, theirs.num_tokens)
    for path in sorted((straight / "evals").iterdir()):
        assert (run / "evals" / path.name).read_bytes() == path.read_bytes()
    model = "model/model.safetensors"
    assert (run / model).read_bytes() == (straight / model).read_bytes()


@pytest.mark.parametrize("stage", [1, 3])
def test_a_run_goes_on_with_another_number_of_ranks(straight, data_set, tmp_path, stage):
    run = tmp_path / "run"
    stage_override = [f"deepspeed.stage={stage}"]
    for process in start_and_wait_for(6, data_set, run, 2, stage_override):
        process.kill()
        process.join()
    written = list_checkpoints(run / "checkpoints")[-1]
    assert written.world_size == 2
    assert run_ranks(SCRIPT, "train_once", **arguments(data_set, run, stage_override)) == [0]
    assert RunRecord.read(run).pair_chain == RunRecord.read(straight).pair_chain
    np.testing.assert_allclose(
        [line[1] for line in losses(run)], [line[1] for line in losses(straight)], atol=2e-5
    )


def test_a_signal_saves_and_leaves_with_its_own_code(straight, data_set, tmp_path):
    run = tmp_path / "run"
    processes = start_and_wait_for(3, data_set, run, 2)
    # One rank alone gets the signal: all must stop after the same step.
    os.kill(processes[1].pid, signal.SIGTERM)
    join(processes)
    results = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert [value["result"] for value in results] == [EXIT_INTERRUPTED] * 2
    record = RunRecord.read(run)
    assert record.status == "interrupted"
    assert list_checkpoints(run / "checkpoints")[-1].state.step == record.step < record.num_steps


def test_every_rank_gets_its_random_generators_back(data_set, tmp_path):
    drawn = run_ranks(
        SCRIPT, "draw_before_and_after_resume", 2, **arguments(data_set, tmp_path / "run")
    )
    assert [rank["after"] for rank in drawn] == [rank["before"] for rank in drawn]
    assert drawn[0]["before"] != drawn[1]["before"]


def test_a_complete_run_is_not_taken_again(straight, data_set):
    before = (straight / "run.json").read_bytes()
    assert run_ranks(SCRIPT, "train_once", **arguments(data_set, straight)) == [0]
    assert (straight / "run.json").read_bytes() == before


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(straight, data_set, tmp_path):
    run = tmp_path / "run"
    for process in start_and_wait_for(7, data_set, run, 1):
        process.kill()
        process.join()
    newest = list_checkpoints(run / "checkpoints")[-1]
    states = next((newest.folder / "states").iterdir())
    content = bytearray(states.read_bytes())
    content[len(content) // 2] ^= 1
    states.write_bytes(content)
    assert newest.damaged_files() == [f"states/{states.name}"]
    assert run_ranks(SCRIPT, "train_once", **arguments(data_set, run)) == [0]
    assert losses(run) == losses(straight)


def test_old_checkpoints_go_and_the_last_two_stay(straight):
    steps = [checkpoint.state.step for checkpoint in list_checkpoints(straight / "checkpoints")]
    last = RunRecord.read(straight).num_steps
    assert len(steps) == 2
    assert steps[-1] == last


def test_a_replayed_step_has_the_recorded_loss_to_the_bit(straight, data_set):
    run_ranks(SCRIPT, "replay_once", step=5, **arguments(data_set, straight))
    found = json.loads((straight / "replays" / "step-00000005.json").read_text())
    assert found["loss"] == found["recorded_loss"]
    chosen = np.asarray([pair["chosen_reward"] for pair in found["pairs"]])
    rejected = np.asarray([pair["rejected_reward"] for pair in found["pairs"]])
    assert np.logaddexp(0, rejected - chosen).mean() == pytest.approx(found["bt_loss"], abs=1e-6)
    assert found["grad_norm"] == pytest.approx(
        sum(norm**2 for norm in found["gradient_norms"].values()) ** 0.5, rel=1e-5
    )
