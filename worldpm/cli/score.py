"""`worldpm score CHECKPOINT IN OUT`: the scores of a file of groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import yaml


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, or auto.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Type of the backbone; the score head is always float32.",
)
@click.option("--max-tokens", type=click.IntRange(min=40), help="Longest prompt with one response.")
@click.option(
    "--token-budget",
    type=click.IntRange(min=40),
    default=16384,
    show_default=True,
    help="Tokens of one forward pass: memory against speed.",
)
@click.option("--vllm", metavar="URL", help="Let this vLLM server compute (its /classify).")
@click.option("--dry-run", is_flag=True, help="Show the options and the plan; stop.")
def command(checkpoint: Path, source: Path, target: Path, *, dry_run: bool, **options: Any) -> None:
    """Score every response of every group in IN and write OUT.

    IN is a .jsonl file with one group a line,
    {"id", "prompt": [{"role", "content"}...], "responses": ["text"...]}, or Parquet of groups
    (a file or the folder that `worldpm data build` writes). OUT (.jsonl or .parquet) has one line a
    group, {"id", "scores": [...]}, in the same order.

    An interrupted job goes on where it stopped when the same command is run again; OUT appears only
    when it is whole.
    """
    if dry_run:
        _print_plan(checkpoint, source, target, options)
        return
    from worldpm.log import logger, progress
    from worldpm.scoring.backends import make_scorer
    from worldpm.scoring.score_file import describe_checkpoint, score_file

    job = {"checkpoint": describe_checkpoint(checkpoint), **options}
    with progress(f"scoring {source.name}") as bar:
        counts = score_file(
            lambda: make_scorer(checkpoint, **options), source, target, job=job, progress=bar
        )
    logger.info(
        "%s: %d groups, %d responses scored (%d groups by an earlier run); "
        "%d prompts and %d responses cut to fit the context",
        target,
        counts.groups,
        counts.responses,
        counts.groups_resumed,
        counts.prompts_cut,
        counts.responses_cut,
    )


def _print_plan(checkpoint: Path, source: Path, target: Path, options: dict[str, Any]) -> None:
    values = {"checkpoint": str(checkpoint), "source": str(source), "target": str(target)}
    click.echo(yaml.safe_dump(values | options, sort_keys=False), nl=False)
    for path in (checkpoint, source):
        click.echo(f"# {path} {'is there' if path.exists() else 'DOES NOT EXIST'}")
    click.echo(f"# writes {target}" + (", replacing the file there" if target.exists() else ""))
