"""What the verbs share: `CONFIG [key.path=value]… [--dry-run]`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from worldpm.config import ConfigModel, load_config, to_yaml

Config = TypeVar("Config", bound=ConfigModel)
Function = TypeVar("Function", bound=Callable[..., Any])


def config_arguments(function: Function) -> Function:
    """Add the arguments `config_path`, `overrides` and `dry_run` to a command."""
    for decorate in (
        click.option("--dry-run", is_flag=True, help="Show the configuration and the plan; stop."),
        click.argument("overrides", nargs=-1, metavar="[KEY.PATH=VALUE]..."),
        click.argument("config_path", metavar="CONFIG", type=click.Path(path_type=Path)),
    ):
        function = decorate(function)
    return function


def read_config(
    config_type: type[Config],
    config_path: Path,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    plan: Callable[[Config], list[str]],
) -> Config | None:
    """Load the configuration; on a dry run print it with the plan and return None.

    What a dry run prints is YAML that loads back unchanged: the plan stands in comments.
    """
    config = load_config(config_type, config_path, overrides)
    if not dry_run:
        return config
    click.echo(to_yaml(config), nl=False)
    for line in plan(config):
        click.echo(f"# {line}")
    return None
