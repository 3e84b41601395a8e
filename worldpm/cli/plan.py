"""`worldpm plan`: what a training run takes, before it is started."""

from __future__ import annotations

from pathlib import Path

import click

from worldpm.cli.common import config_arguments, read_config


@click.command("plan")
@config_arguments
@click.option(
    "--trace", is_flag=True, help="Take a whole step without GPUs, on a fake process group."
)
@click.option("--layers", type=int, default=None, help="With --trace: only so many layers.")
def command(
    config_path: Path,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    trace: bool,
    layers: int | None,
) -> None:
    """Say what a run takes on a cluster: memory per GPU by part, hours, cost, checkpoints.

    \b
    The paper's run, 15 M pairs and 72 B parameters:
      worldpm plan configs/train/72b.yaml cluster.gpus=64 cluster.gpu=h100-80g

    CONFIG is that of `worldpm train`; no data and no GPU is needed. --trace builds the model of the
    configuration under ZeRO on as many fake ranks as the cluster has GPUs and runs a step without
    memory: partition sizes and FLOPs are exact, values and times mean nothing.
    """
    from worldpm.training.config import TrainConfig
    from worldpm.training.plan import make_plan, report_lines

    def lines(config: TrainConfig) -> list[str]:
        return report_lines(config, make_plan(config))

    config = read_config(TrainConfig, config_path, overrides, dry_run=dry_run, plan=lines)
    if config is None:
        return
    click.echo("\n".join(lines(config)))
    if trace:
        from worldpm.training.trace import trace_lines

        click.echo("\n".join(trace_lines(config, num_layers=layers)))
