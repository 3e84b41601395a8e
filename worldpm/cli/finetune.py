"""`worldpm finetune`: a checkpoint, or a base model, on a preference set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worldpm.cli.common import config_arguments, read_config

if TYPE_CHECKING:
    from worldpm.training.finetuning.config import FinetuneConfig


@click.command("finetune")
@config_arguments
# The `deepspeed` launcher passes it to every process; the rank comes from the environment.
@click.option("--local_rank", "local_rank", type=int, default=None, hidden=True)
def command(
    config_path: Path, overrides: tuple[str, ...], *, dry_run: bool, local_rank: int | None
) -> None:
    """Fine-tune a checkpoint on a preference set, and compare before with after.

    \b
    A checkpoint of ours, the released WorldPM layout, Skywork-Reward-V2, or a base model:
      worldpm finetune configs/finetune/helpsteer2.yaml \\
        model.init_from=FOLDER preferences.source.path=train.jsonl.gz output_dir=RUN
    With and without pre-training: the second run names the first as its baseline:
      worldpm finetune CONFIG model.init_from=BASE       output_dir=WITHOUT
      worldpm finetune CONFIG model.init_from=CHECKPOINT output_dir=WITH baseline=WITHOUT

    RUN is a run directory as of `worldpm train`; RUN/model is the checkpoint of the lowest loss on
    the validation split; RUN/comparison.{json,md} holds the paired comparison on every test set.
    The same command continues an interrupted run; launchers as for `worldpm train`.
    """
    from worldpm.training.finetuning.config import FinetuneConfig
    from worldpm.training.finetuning.plan import plan_lines

    config = read_config(FinetuneConfig, config_path, overrides, dry_run=dry_run, plan=plan_lines)
    if config is None:
        return
    from worldpm.training.finetuning.run import finetune

    sys.exit(finetune(with_suite(config)))


def with_suite(config: FinetuneConfig) -> FinetuneConfig:
    """The configuration with the suite's benchmarks among its test sets."""
    if config.suite is None:
        return config
    from eval.config import EvalConfig
    from eval.evaluation import prepare_test_sets
    from worldpm.config import load_config
    from worldpm.training.config import TestSetConfig

    folder = Path(config.data.path) / "test_sets"
    settings = [f"data_dir={config.suite.data_dir}", f"output_dir={folder}"]
    index = prepare_test_sets(load_config(EvalConfig, config.suite.config, settings))
    sets = {name: TestSetConfig.model_validate(section) for name, section in index.items()}
    return config.model_copy(update={"test_sets": {**sets, **config.test_sets}})
