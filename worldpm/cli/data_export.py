"""`worldpm data export`: the pairs of a build as one flat file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worldpm.cli.common import config_arguments, read_config
from worldpm.errors import WorldPMError

if TYPE_CHECKING:
    from data_pipeline.export import ExportConfig


@click.command("export")
@config_arguments
def command(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Write flat preference pairs: prompt, chosen and rejected as lists of messages.

    \b
    worldpm data export configs/data/export.yaml input=OUT output=pairs.parquet
    worldpm data export configs/data/export.yaml input=OUT output=train.jsonl 'splits=[train]'

    The file is the conversational preference format of Hugging Face `datasets`: TRL and OpenRLHF
    read it as it is, LLaMA-Factory with layout=message.
    """
    from data_pipeline.export import ExportConfig, export_pairs

    config = read_config(ExportConfig, config_path, overrides, dry_run=dry_run, plan=_plan)
    if config is None:
        return
    num_pairs = export_pairs(config)
    click.echo(f"{config.output}: {num_pairs:,} pairs")


def _plan(config: ExportConfig) -> list[str]:
    from data_pipeline.export import group_files

    try:
        num_files = len(group_files(config.input))
    except WorldPMError as exc:
        return [f"the export would stop: {exc}"]
    return [f"read {num_files} files of groups, write one row a pair to {config.output}"]
