"""`worldpm data`: build, look at and export preference pairs."""

from __future__ import annotations

from pathlib import Path

import click

from worldpm.cli import data_curate, data_export, data_generate, data_import, data_inspect
from worldpm.cli.common import config_arguments, read_config


@click.group()
def command() -> None:
    """Turn StackExchange dumps into preference pairs.

    \b
    worldpm data build configs/data/base.yaml source.path=DUMP output_dir=OUT
    worldpm data inspect OUT --site coffee.stackexchange.com
    """


command.add_command(data_generate.command)
command.add_command(data_export.command)
command.add_command(data_inspect.command)
command.add_command(data_import.command)
command.add_command(data_curate.curate)
command.add_command(data_curate.annotate)


@command.command()
@click.option(
    "--strict", is_flag=True, help="Refuse damaged input (the same as source.strict=true)."
)
@click.option(
    "--until", metavar="STAGE", help="Run up to this stage and stop; --dry-run lists the stages."
)
@config_arguments
def build(
    config_path: Path,
    overrides: tuple[str, ...],
    *,
    dry_run: bool,
    strict: bool,
    until: str | None,
) -> None:
    """Turn a dump into groups of answers with preference pairs, and into token shards.

    \b
    worldpm data build configs/data/base.yaml source.path=DUMP output_dir=OUT

    DUMP holds <host>.7z archives and/or <host>/Posts.xml folders. OUT gets manifest.json, card.md,
    groups/*.parquet, tokenizer/ and shards/. What is there already and still current is kept; after
    a kill the same command goes on where it stopped.

    One stage at a time: --until pair runs what the stage `pair` needs and `pair` itself; with all
    before it kept, that is this stage alone. To run a stage again, remove its folder OUT/stages/….

    \b
    worldpm data build … --dry-run                        the stages, and which would run
    worldpm data build … --until pair                     stop behind a stage
    worldpm data build configs/data/base.yaml source.path=s3://bucket/dump \\
        output_dir=s3://bucket/out work_dir=/scratch/out  read from and publish to an object store
    """
    from data_pipeline.config import DataConfig
    from data_pipeline.pipeline import build as build_data
    from data_pipeline.pipeline import plan_lines

    extra = ("source.strict=true",) if strict else ()
    config = read_config(
        DataConfig, config_path, (*overrides, *extra), dry_run=dry_run, plan=plan_lines
    )
    if config is None:
        return
    if build_data(config, until):
        made = f"stopped behind {until}" if until else f"{config.output_dir}/card.md describes it"
        click.echo(f"done: {made}")
    else:
        click.echo(f"nothing to do: {config.output_dir} is complete and current")
