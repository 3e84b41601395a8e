"""`worldpm data import`: a published preference set as a file of groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worldpm.cli.common import config_arguments, read_config

if TYPE_CHECKING:
    from data_pipeline.import_groups import ImportConfig


@click.command("import")
@config_arguments
def command(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Turn a published preference set into a file of groups.

    \b
    worldpm data import configs/data/import.yaml source.format=helpsteer2 \\
        source.path=train.jsonl.gz output=helpsteer2.jsonl

    Formats: helpsteer2; ultrafeedback (two disjoint pairs a prompt); conversations (RLHFlow's pair
    data, binarized UltraFeedback, our own exports); hh_rlhf; rm_gallery; shp (Reddit); quora;
    label_studio; groups. Every item that makes no group is counted with its reason.
    """
    from data_pipeline.import_groups import ImportConfig, import_groups

    config = read_config(ImportConfig, config_path, overrides, dry_run=dry_run, plan=_plan)
    if config is None:
        return
    report = import_groups(config)
    counts = report.counts
    dropped = ", ".join(f"{reason} {number:,}" for reason, number in counts.dropped.items())
    click.echo(
        f"{config.output}: {counts.rows_out:,} groups of {counts.rows_in:,} items"
        + (f" (dropped: {dropped})" if dropped else "")
    )
    if report.agreement is not None:
        alpha = report.agreement.alpha
        shown = "unknown: nothing was compared twice" if alpha is None else f"{alpha:.3f}"
        click.echo(
            f"Krippendorff's alpha {shown}; {report.agreement.num_comparisons:,} comparisons by "
            f"{report.agreement.num_annotators:,} annotators"
        )


def _plan(config: ImportConfig) -> list[str]:
    benchmarks = ", ".join(config.decontamination.benchmarks) or "none"
    return [
        f"read {config.source.path} as {config.source.format}, write groups to {config.output}",
        f"drop what shares {config.decontamination.ngram} words with a benchmark: {benchmarks}",
    ]
