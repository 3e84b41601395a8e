"""The model of the lowest validation loss is the same, however often the run is killed."""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.distributed import run_ranks, start_ranks
from tests.worldpm.training.finetuning.running import tiny_settings
from worldpm.artifacts import read_json
from worldpm.run_record import eval_path, read_evals
from worldpm.training.finetuning.comparison import kept_step

SCRIPT = Path(__file__).with_name("on_ranks.py")
# A learning rate that overshoots: the validation loss falls, then rises again.
RECIPE = (
    "batch.pairs_per_step=16",
    "evaluation.per_epoch=4",
    "checkpoint.every_pairs=48",
    "optimizer.lr=3e-2",
    "batch.epochs=2",
)


@pytest.fixture
def make_settings(
    base_folder: Path, preference_file: Path, test_file: Path
) -> Callable[[Path], list[str]]:
    """The settings of the same run into another folder."""

    def make(run: Path) -> list[str]:
        return [*tiny_settings(base_folder, preference_file, test_file, run), *RECIPE]

    return make


def kill_after_measuring(step: int, settings: list[str], run: Path) -> None:
    """Run until the measurement after `step` steps is written, and kill at once."""
    [process] = start_ranks(SCRIPT, "finetune_once", 1, run.parent, settings=settings)
    wait_for(eval_path(run, step), process)
    process.kill()
    process.join()


def wait_for(path: Path, process: BaseProcess) -> None:
    """Until a file is there."""
    deadline_s = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline_s, f"{path} did not appear"
        assert process.is_alive(), f"the run ended before {path}"
        time.sleep(0.001)


def test_the_best_model_survives_kills(
    make_settings: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    straight, killed = tmp_path / "straight" / "run", tmp_path / "killed" / "run"
    killed.parent.mkdir()
    assert run_ranks(SCRIPT, "finetune_once", settings=make_settings(straight)) == [0]
    best = kept_step(straight)
    later = [record.step for record in read_evals(straight) if record.step > best]

    # As its record appears the best model is not written yet; after the next one it must stay.
    for step in (best, *later[:1]):
        kill_after_measuring(step, make_settings(killed), killed)
    assert run_ranks(SCRIPT, "finetune_once", settings=make_settings(killed)) == [0]
    assert kept_step(killed) == best
    card = read_json(killed / "model/worldpm.json")
    assert card["provenance"]["step"] == best
    for name in ("model/model.safetensors", "comparison.json"):
        assert (killed / name).read_bytes() == (straight / name).read_bytes()
