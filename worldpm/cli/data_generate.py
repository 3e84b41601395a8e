"""`worldpm data generate`: write a made-up dump with planted truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worldpm.cli.common import config_arguments, read_config

if TYPE_CHECKING:
    from data_pipeline.sources.generated import GenerateConfig


@click.command("generate")
@config_arguments
def command(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Write a made-up StackExchange dump whose true answer qualities are known.

    The dump has the publisher's exact format and three held-out test sets beside it. The same
    settings give the same bytes; memory does not grow with the size.

    \b
    worldpm data generate configs/data/generate.yaml output_dir=DUMP num_posts=40000
    worldpm data generate configs/data/generate.yaml output_dir=DUMP num_posts=60000000 \\
        archive_format=xml with_votes_file=false
    """
    from data_pipeline.sources.generated import GenerateConfig, generate_dump

    config = read_config(GenerateConfig, config_path, overrides, dry_run=dry_run, plan=_plan)
    if config is None:
        return
    dump = generate_dump(config)
    if not dump.is_new:
        click.echo(f"{config.output_dir} already holds exactly this dump: nothing to do")
        return
    click.echo(
        f"{config.output_dir}: {dump.num_posts:,} posts ({dump.num_questions:,} questions, "
        f"{dump.num_answers:,} answers) on {len(dump.sites)} sites"
    )


def _plan(config: GenerateConfig) -> list[str]:
    from data_pipeline.sources.generated.generate import BYTES_PER_POST

    size_gb = config.num_posts * BYTES_PER_POST / 1e9
    return [
        f"write {config.num_posts:,} posts (about {size_gb:.2f} GB of Posts.xml before packing) "
        f"to {config.output_dir}",
        f"write three test sets of {config.num_test_items:,} items, the planted truth and a README",
    ]
