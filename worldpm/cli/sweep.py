"""`worldpm sweep plan|launch|status`: many training runs of one ladder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worldpm.cli.common import config_arguments, read_config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scaling.sweep import RunState
    from scaling.sweep_config import SweepConfig


@click.group()
def command() -> None:
    """Plan and launch many runs of one ladder: sizes × seeds × data scales × variants.

    Each run is a plain `worldpm train` command with its own run directory below output_dir.
    Launching again runs what is missing; a failed run is shown with its last log lines.
    """


@command.command("plan")
@config_arguments
def plan_command(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Show every run and what it needs, without starting anything."""
    config = _read(config_path, overrides, dry_run)
    if config is not None:
        for line in _plan(config):
            click.echo(line)


@command.command("launch")
@config_arguments
def launch_command(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Start the runs that are not completed yet; exit code 2 if any of them fails.

    \b
    worldpm sweep launch configs/sweep/demo.yaml data.path=OUT output_dir=RUNS
    """
    config = _read(config_path, overrides, dry_run)
    if config is None:
        return
    from scaling.sweep import launch_sweep

    states = launch_sweep(config)
    _show(states)
    if any(state.state in ("failed", "unreadable") for state in states):
        sys.exit(2)


@command.command("status")
@config_arguments
def status_command(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Say from the run records how far every run is."""
    config = _read(config_path, overrides, dry_run)
    if config is not None:
        from scaling.sweep import sweep_status

        _show(sweep_status(config))


def _read(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> SweepConfig | None:
    from scaling.sweep_config import SweepConfig

    return read_config(SweepConfig, config_path, overrides, dry_run=dry_run, plan=_plan)


def _plan(config: SweepConfig) -> list[str]:
    from scaling.cost import data_scale, run_cost
    from scaling.grid import make_grid
    from scaling.number_text import short_number

    specs = make_grid(config)
    scale = data_scale(config, specs[0].config)
    costs = [run_cost(spec, scale, config) for spec in specs]
    row = "{:30} {:>8} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9} {:>10}".format
    columns = (
        "run",
        "weights",
        "no embed.",
        "pairs",
        "tokens",
        "FLOPs",
        "GB/device",
        "hours",
        "cost",
    )
    lines = [f"data: {scale.source}", row(*columns)]
    for spec, cost in zip(specs, costs, strict=True):
        counts = (cost.num_params, cost.num_params_non_embedding, cost.num_pairs, cost.num_tokens)
        numbers = [short_number(value) for value in (*counts, cost.flops, cost.memory_gb)]
        lines.append(row(spec.name, *numbers, f"{cost.hours:.3g}", f"{cost.cost:,.0f}"))
    total_hours, total_cost = sum(c.hours for c in costs), sum(c.cost for c in costs)
    lines.append(
        f"{len(specs)} runs, {total_hours:.3g} hours one after the other, {total_cost:,.0f}"
    )
    return [*lines, "", *(spec.command for spec in specs)]


def _show(states: Sequence[RunState]) -> None:
    from scaling.sweep import count_states

    for state in states:
        place = f"step {state.step}/{state.num_steps}, {state.num_pairs:,} pairs"
        click.echo(f"{state.spec.name:28} {state.state:12} {place}, {state.wall_s:,.0f} s")
        if state.detail:
            click.echo("\n".join(f"    | {line}" for line in state.detail.splitlines()))
    counts = ", ".join(f"{count} {name}" for name, count in count_states(states).items())
    click.echo(f"{len(states)} runs: {counts}")
