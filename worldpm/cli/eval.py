"""`worldpm eval`: run a model on preference benchmarks, or work with anyone's scores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worldpm.cli.common import config_arguments, read_config
from worldpm.errors import ConfigError

if TYPE_CHECKING:
    from eval.config import EvalConfig
    from eval.results import Results
    from eval.runner import GroupScorer, Shard


@click.group(name="eval")
def command() -> None:
    """Measure a model on preference benchmarks.

    run scores every item once and aggregates; aggregate does the same from a file of scores;
    compare sets evaluations side by side; prepare writes test sets for training.

    Suites: configs/eval/{quick,official,worldpm-12,demo}.yaml.
    """


@command.command()
@config_arguments
def run(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Score a suite with a model or a running server, and aggregate.

    \b
    worldpm eval run configs/eval/quick.yaml model=RUN/model data_dir=DIR output_dir=E
    worldpm eval run configs/eval/quick.yaml server=http://host:8000 data_dir=DIR output_dir=E

    DIR holds the benchmarks as their authors publish them. E gets items.jsonl (the scores of every
    response), results.json and report.html. Kill it and run it again: only what is left is scored.
    Under torchrun, or with shard.rank and shard.world_size, each process scores its part.
    """
    from eval.config import EvalConfig

    config = read_config(EvalConfig, config_path, overrides, dry_run=dry_run, plan=_plan)
    if config is None:
        return
    from eval.evaluation import run_evaluation

    shard = _shard(config)
    scorer, identity = _scorer(config)
    results = run_evaluation(config, scorer, model_identity=identity, shard=shard)
    if results is None:
        click.echo(f"rank {shard.rank} is done; the last rank to finish writes the results")
        return
    _print_results(results, config)


@command.command()
@config_arguments
def aggregate(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Aggregate a file of scores, without any model.

    \b
    worldpm eval aggregate configs/eval/official.yaml scores=FILE.jsonl data_dir=DIR output_dir=E

    A line: {"benchmark": "judgebench", "id": "<pair_id>", "scores": [score of A, score of B]}.
    docs/evaluation.md says for each benchmark what the ids are and in which order scores stand.
    """
    from eval.config import EvalConfig

    config = read_config(EvalConfig, config_path, overrides, dry_run=dry_run, plan=_plan)
    if config is None:
        return
    from eval.evaluation import aggregate_scores

    _print_results(aggregate_scores(config), config)


@command.command()
@config_arguments
def prepare(config_path: Path, overrides: tuple[str, ...], dry_run: bool) -> None:
    """Write benchmarks as group files that a training run scores as it goes.

    \b
    worldpm eval prepare configs/eval/worldpm-12.yaml data_dir=DIR output_dir=P

    P gets <benchmark>.jsonl, with the pairs of the paper's rule, and test_sets.yaml: the
    test_sets section of a train config.
    """
    from eval.config import EvalConfig

    config = read_config(EvalConfig, config_path, overrides, dry_run=dry_run, plan=_plan)
    if config is None:
        return
    from eval.evaluation import TEST_SETS_FILE, prepare_test_sets

    index = prepare_test_sets(config)
    click.echo(f"{len(index)} test sets: {config.output_dir / TEST_SETS_FILE}")


@command.command()
@click.argument("evaluations", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--output-dir", default="outputs/eval-compare", type=click.Path(path_type=Path))
@click.option("--protocol", default="official", help="official, or worldpm for the paper's rule.")
@click.option("--num-bootstrap", default=2000, type=click.IntRange(min=100))
@click.option("--seed", default=0)
@click.option(
    "--published",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file of published numbers to show beside; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be compared; stop.")
def compare(
    *,
    evaluations: tuple[Path, ...],
    output_dir: Path,
    protocol: str,
    num_bootstrap: int,
    seed: int,
    published: tuple[Path, ...],
    dry_run: bool,
) -> None:
    """Compare evaluations with the first one named, on the same items.

    \b
    worldpm eval compare E1 E2 E3 --output-dir C
    worldpm eval compare E1 E2 --published configs/eval/published/skywork-reward-v2.json

    E1, E2, … are output folders of eval run or eval aggregate. C gets compare.md, compare.csv,
    compare.html and the figure: McNemar's test or a paired bootstrap, Holm's correction over
    benchmarks, and which differences stand.
    """
    from eval.compare import compare_evaluations
    from eval.compare_report import difference_table, write_comparison
    from eval.published import read_published
    from eval.report import plain_table

    numbers = [number for path in published for number in read_published(path)]
    if dry_run:
        click.echo(f"# plan: compare {', '.join(map(str, evaluations))} under the {protocol} rule")
        click.echo(f"# to {output_dir}")
        return
    comparison = compare_evaluations(
        evaluations, protocol=protocol, num_bootstrap=num_bootstrap, seed=seed
    )
    write_comparison(comparison, output_dir, numbers)
    table = difference_table(comparison)
    click.echo(plain_table(table.columns, table.rows))
    click.echo(f"comparison: {output_dir / 'compare.html'}")


def _plan(config: EvalConfig) -> list[str]:
    from eval.benchmarks import BENCHMARKS

    lines = [f"plan: {len(config.benchmarks)} benchmarks from {config.data_dir}"]
    for name in config.benchmarks:
        if name not in BENCHMARKS:
            lines.append(f"  {name}: unknown")
            continue
        source, benchmark = BENCHMARKS[name]
        folder = source.folder(config.data_dir)
        place = folder if folder is not None else "not here"
        lines.append(f"  {name} ({benchmark.kind}, {benchmark.fidelity}): {place}")
    lines.append(f"scores of {config.model or config.server or config.scores or 'nothing named'}")
    return [*lines, f"results to {config.output_dir}"]


def _scorer(config: EvalConfig) -> tuple[GroupScorer, str]:
    """The scorer that the configuration names, and what identifies its scores."""
    if (config.model is None) == (config.server is None):
        raise ConfigError("name one of model=FOLDER and server=URL (for a file: eval aggregate)")
    if config.server is not None:
        from worldpm.client import ScoringClient

        client = ScoringClient(config.server)
        return client, f"{config.server} {client.model_info()}"
    from eval.runner import checkpoint_identity
    from worldpm.scoring import Scorer

    assert config.model is not None
    settings = config.run
    scorer = Scorer.from_checkpoint(
        config.model,
        device=_local_device(settings.device),
        dtype=settings.dtype,
        max_tokens=settings.max_tokens,
        token_budget=settings.token_budget,
    )
    # The token budget and the device do not change a score beyond rounding.
    identity = checkpoint_identity(
        config.model, dtype=settings.dtype, max_tokens=settings.max_tokens
    )
    return scorer, identity


def _local_device(device: str) -> str:
    local_rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{local_rank}" if device == "cuda" and local_rank is not None else device


def _shard(config: EvalConfig) -> Shard:
    from eval.runner import Shard

    if config.shard.rank is not None and config.shard.world_size is not None:
        return Shard(config.shard.rank, config.shard.world_size)
    # What torchrun sets for each process.
    return Shard(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def _print_results(results: Results, config: EvalConfig) -> None:
    from eval.report import results_table

    click.echo(results_table(results.report))
    for one in results.report["missing"]:
        click.echo(f"missing {one['name']}: {one['reason']}")
    click.echo(f"results: {config.output_dir}")
