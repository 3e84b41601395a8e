"""`worldpm train`: a preference model from token shards."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from worldpm.cli.common import config_arguments, read_config


@click.command("train")
@config_arguments
@click.option("--replay", "replay_step", type=int, default=None, metavar="STEP")
def command(
    config_path: Path,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    replay_step: int | None,
) -> None:
    """Train a preference model on the output of `worldpm data build`.

    \b
    One process, any machine:
      worldpm train configs/train/tiny.yaml data.path=OUT output_dir=RUN
    Several GPUs, several machines:
      torchrun --nproc_per_node 8 --no-python worldpm train CONFIG …
      deepspeed --no_local_rank --no_python worldpm train CONFIG …
      sbatch --nodes 8 configs/train/slurm.sh CONFIG …

    The same command continues an interrupted run. RUN holds run.json, metrics.jsonl, evals/,
    checkpoints/ and, at the end, model/ (loads in transformers and in all verbs).

    --replay STEP takes a past step of RUN again and writes its parts to RUN/replays: every pair's
    rewards, every weight's gradient norm. RUN/spikes names the steps that stood out.

    Exit codes: 0 done; 2 a mistake in the input; 75 a signal asked to stop and a checkpoint was
    saved; 76 a rank hung; 77 the loss is no number.
    """
    # OpenMP's threads spin while they wait; on a busy machine they take each other's cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from worldpm.training.config import TrainConfig
    from worldpm.training.plan import plan_lines

    config = read_config(TrainConfig, config_path, overrides, dry_run=dry_run, plan=plan_lines)
    if config is None:
        return
    if replay_step is not None:
        from worldpm.training.replay import replay

        replay(config, replay_step)
        return
    from worldpm.training.trainer import train

    sys.exit(train(config))
