"""`worldpm data curate` and `worldpm data annotate`: what models say about groups, put to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worldpm.cli.common import config_arguments, read_config

if TYPE_CHECKING:
    from data_pipeline.annotation_tasks import AnnotationConfig
    from data_pipeline.curation import CurationConfig


@click.command("curate")
@config_arguments
def curate(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Keep the pairs that reward models confirm; discard or flip the others.

    \b
    worldpm score MODEL GROUPS.jsonl SCORES.jsonl
    worldpm data curate configs/data/curate.yaml groups=GROUPS.jsonl scores.gold=SCORES.jsonl \\
        output=CURATED.jsonl flip_below=0.1

    A model's filter pulls the data towards that model: compare with the unfiltered set.
    """
    from data_pipeline.curation import CurationConfig
    from data_pipeline.curation import curate as curate_groups

    config = read_config(CurationConfig, config_path, overrides, dry_run=dry_run, plan=_curate_plan)
    if config is None:
        return
    counts = curate_groups(config)
    click.echo(
        f"{config.output}: {counts.pairs.rows_out:,} of {counts.pairs.rows_in:,} pairs, "
        f"{counts.num_flipped:,} of them flipped"
    )


def _curate_plan(config: CurationConfig) -> list[str]:
    return [
        f"keep pairs to which {', '.join(config.scores)} give more than {config.keep_above}, "
        f"flip those below {config.flip_below}, write {config.output}"
    ]


@click.command("annotate")
@config_arguments
def annotate(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Write the groups that a model is least sure of as tasks for Label Studio.

    \b
    worldpm score MODEL GROUPS.jsonl SCORES.jsonl
    worldpm data annotate configs/data/annotate.yaml groups=GROUPS.jsonl scores=SCORES.jsonl \\
        output=TASKS.json

    The annotations come back with `worldpm data import … source.format=label_studio`.
    """
    from data_pipeline.annotation_tasks import AnnotationConfig, write_annotation_tasks

    config = read_config(
        AnnotationConfig, config_path, overrides, dry_run=dry_run, plan=_annotate_plan
    )
    if config is None:
        return
    click.echo(f"{config.output}: {write_annotation_tasks(config):,} tasks")


def _annotate_plan(config: AnnotationConfig) -> list[str]:
    return [f"write the {config.num_groups:,} closest comparisons to {config.output}"]
