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
    from scaling.grid import make_grid

    return [spec.command for spec in make_grid(config)]


def _show(states: Sequence[RunState]) -> None:
    from scaling.sweep import count_states

    for state in states:
        place = f"step {state.step}/{state.num_steps}, {state.num_pairs:,} pairs"
        click.echo(f"{state.spec.name:28} {state.state:12} {place}, {state.wall_s:,.0f} s")
        if state.detail:
            click.echo("\n".join(f"    | {line}" for line in state.detail.splitlines()))
    counts = ", ".join(f"{count} {name}" for name, count in count_states(states).items())
    click.echo(f"{len(states)} runs: {counts}")
