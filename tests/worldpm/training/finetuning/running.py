"""Run the verb on a tiny set, and read the scores that a run measured or its model gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from worldpm.cli.main import cli
from worldpm.group_files import read_group_file
from worldpm.scoring import Scorer
from worldpm.training.finetuning.comparison import read_pair_scores

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}

ROOT = Path(__file__).parents[4]


TINY = ROOT / "configs/finetune/tiny.yaml"


def tiny_settings(init_from: Path, source: Path, test: Path, run: Path) -> list[str]:
    """What the tiny configuration leaves open, for a run of seconds."""
    return [
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
    ]


def run_finetune(init_from: Path, source: Path, test: Path, run: Path, *further: str) -> Result:
    """Call the verb on a tiny run; exceptions are raised here."""
    settings = [*tiny_settings(init_from, source, test, run), *further]
    return CliRunner().invoke(cli, ["finetune", str(TINY), *settings], catch_exceptions=False)


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
