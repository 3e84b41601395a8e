"""`worldpm finetune` from every kind of folder: what it keeps, what it says, what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from worldpm.cli.main import cli
from worldpm.group_files import read_group_file
from worldpm.run_record import RunRecord
from worldpm.scoring import Scorer
from worldpm.training.finetuning.comparison import kept_step, read_pair_scores

ROOT = Path(__file__).parents[4]


def run_finetune(init_from: Path, source: Path, test: Path, run: Path, *further: str) -> Result:
    """Call the verb on a tiny run; exceptions are raised here."""
    arguments = [
        "finetune",
        str(ROOT / "configs/finetune/tiny.yaml"),
        f"model.init_from={init_from}",
        f"preferences.source.path={source}",
        f"output_dir={run}",
        f"test_sets.held_out={{path: {test}, kind: subjective}}",
        "preferences.validation=0.2",
        "preferences.max_tokens=128",
        "batch.pairs_per_step=32",
        "batch.epochs=4",
        "evaluation.first_pairs=64",
        "evaluation.per_epoch=1",
        "optimizer.lr=3e-3",
        "checkpoint.every_pairs=null",
        *further,
    ]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def scores_of(model: Path, test: Path) -> np.ndarray:
    """Chosen scores of a file's pairs by the scorer, in the order of item ids."""
    groups = sorted(read_group_file(test), key=lambda group: group.group_id)
    scored = Scorer.from_checkpoint(model).score(groups)
    return np.array(
        [one.scores[group.pairs[0].chosen] for group, one in zip(groups, scored, strict=True)]
    )


def measured_scores(run: Path, step: int) -> np.ndarray:
    """The same scores as the run measured them."""
    table = read_pair_scores(run, step)["held_out"]
    return table.only(set(table.keys)).chosen


@pytest.fixture(scope="module")
def from_base(
    base_folder: Path,
    preference_file: Path,
    test_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    run = tmp_path_factory.mktemp("from_base") / "run"
    assert run_finetune(base_folder, preference_file, test_file, run).exit_code == 0
    return run


def test_a_base_model_gets_a_new_head_and_the_record_says_so(from_base: Path) -> None:
    assert RunRecord.read(from_base).head_state == "initialised"
    card = json.loads((from_base / "model/worldpm.json").read_text())
    assert card["provenance"]["head_before_training"] == "initialised"


def test_the_set_is_learnt_and_the_gain_is_significant(from_base: Path) -> None:
    result = json.loads((from_base / "comparison.json").read_text())["held_out"]
    assert result["after"]["accuracy"] > 0.8
    assert result["gain"]["p_value"] < 0.01
    assert result["gain"]["accuracy_interval"][0] > 0


def test_the_model_kept_is_that_of_the_lowest_validation_loss(
    from_base: Path, test_file: Path
) -> None:
    step = kept_step(from_base)
    card = json.loads((from_base / "model/worldpm.json").read_text())
    assert card["provenance"]["step"] == step
    np.testing.assert_allclose(
        scores_of(from_base / "model", test_file), measured_scores(from_base, step), atol=1e-5
    )
