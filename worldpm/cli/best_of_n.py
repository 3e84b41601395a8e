"""`worldpm best-of-n CHECKPOINT IN OUT`: pick the best candidate of every prompt."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

if TYPE_CHECKING:
    from worldpm.scoring.best_of_n import Candidates, CurvePoint


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--gold-column", metavar="NAME", help="Key of IN with a list of gold scores.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, or auto.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True
)
@click.option("--max-tokens", type=click.IntRange(min=40), help="Longest prompt with one response.")
@click.option("--token-budget", type=click.IntRange(min=40), default=16384, show_default=True)
@click.option("--vllm", metavar="URL", help="Let this vLLM server compute (its /classify).")
@click.option("--dry-run", is_flag=True, help="Show the options; stop.")
def command(
    checkpoint: Path,
    source: Path,
    target: Path,
    *,
    gold_column: str | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Score the candidates of every prompt in IN and write the folder OUT.

    IN is a file of groups as `worldpm score` reads it: N candidates as the responses of a prompt.
    OUT gets scores.jsonl, picks.jsonl (the best candidate of every prompt) and curve.json: for
    n = 1, 2, 4, ..., N the expected score, length and gold score of the best of n candidates, with
    standard errors, beside the bound log n - (n - 1)/n on the KL divergence. With gold scores the
    curve shows over-optimisation: gold falls where the model's own score still rises.
    """
    if dry_run:
        values = {"checkpoint": str(checkpoint), "source": str(source), "target": str(target)}
        click.echo(yaml.safe_dump(values | {"gold_column": gold_column} | options), nl=False)
        click.echo(f"# writes {target}/scores.jsonl, picks.jsonl and curve.json")
        return
    from worldpm.log import progress
    from worldpm.scoring.backends import make_scorer
    from worldpm.scoring.score_file import describe_checkpoint, score_file

    job = {"checkpoint": describe_checkpoint(checkpoint), **options}
    scores_file = target / "scores.jsonl"
    with progress(f"scoring {source.name}") as bar:
        score_file(
            lambda: make_scorer(checkpoint, **options),
            source,
            scores_file,
            job=job,
            progress=bar,
            with_lengths=True,
        )
    _write_results(source, scores_file, target, gold_column)


def _write_results(source: Path, scores_file: Path, target: Path, gold_column: str | None) -> None:
    from worldpm.artifacts import atomic_file, write_json
    from worldpm.scoring.best_of_n import best_of_n_curve, default_sizes, fit_overoptimisation

    prompts: list[Candidates] = []
    with atomic_file(target / "picks.jsonl") as file:
        for line, candidates in _read_scored(source, scores_file, gold_column):
            prompts.append(candidates)
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    sizes = default_sizes(min((len(prompt.scores) for prompt in prompts), default=1))
    curve = best_of_n_curve(prompts, sizes)
    fit = fit_overoptimisation(curve)
    write_json(
        target / "curve.json",
        {
            "num_prompts": len(prompts),
            "curve": [asdict(point) for point in curve],
            "overoptimisation": None if fit is None else asdict(fit),
        },
    )
    _print(curve)


def _read_scored(source: Path, scores_file: Path, gold_column: str | None) -> Any:
    import numpy as np

    from worldpm.errors import InputError
    from worldpm.group_files import read_group_file
    from worldpm.scoring.best_of_n import Candidates, read_gold

    gold = None if gold_column is None else read_gold(source, gold_column)
    with scores_file.open(encoding="utf-8") as file:
        for group, text in zip(read_group_file(source), file, strict=True):
            line = json.loads(text)
            if not group.responses:
                raise InputError(f"group {group.group_id} has no candidates")
            gold_scores = None if gold is None else np.array(next(gold))
            if gold_scores is not None and len(gold_scores) != len(group.responses):
                raise InputError(f"group {group.group_id}: not one gold score a candidate")
            best = int(np.argmax(line["scores"]))
            pick = {"id": group.group_id, "index": best, "score": line["scores"][best]}
            candidates = Candidates(
                np.array(line["scores"]), np.array(line["response_tokens"], float), gold_scores
            )
            yield pick | {"response": group.responses[best]}, candidates


def _print(curve: list[CurvePoint]) -> None:
    click.echo(f"{'n':>6} {'KL bound':>9} {'score':>10} {'tokens':>9} {'gold':>10}")
    for point in curve:
        gold = "" if point.gold is None else f"{point.gold.mean:10.4f}"
        click.echo(
            f"{point.n:6d} {point.kl_bound:9.3f} {point.score.mean:10.4f} "
            f"{point.length.mean:9.1f} {gold:>10}"
        )
