"""`worldpm data`: build, look at and export preference pairs."""

from __future__ import annotations

import click

from worldpm.cli import data_generate


@click.group()
def command() -> None:
    """Turn StackExchange dumps into preference pairs.

    \b
    worldpm data build configs/data/base.yaml source.path=DUMP output_dir=OUT
    worldpm data inspect OUT --site coffee.stackexchange.com
    """


command.add_command(data_generate.command)
