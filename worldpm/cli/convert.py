"""`worldpm convert SOURCE TARGET`: bring a reward model of another layout into ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--preset", help="A published model: worldpm-72b, worldpm-72b-helpsteer2, ….")
@click.option("--template", help="Chat template by name; default: the one SOURCE itself renders.")
@click.option("--pad-token", help="Another pad token of the tokenizer; never the reward token.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="Type of the backbone; default: as stored. The head keeps its own.",
)
@click.option("--drop-bias", is_flag=True, help="Leave a head's bias out: shifts every score.")
@click.option("--max-tokens", type=click.IntRange(min=40), help="Context the model was trained to.")
@click.option("--shard-gb", type=float, default=5.0, show_default=True, help="Size of a shard.")
@click.option("--dry-run", is_flag=True, help="Show what would be written; stop.")
def command(source: Path, target: Path, *, dry_run: bool, **options: Any) -> None:
    """Convert the reward model in SOURCE to a checkpoint folder TARGET.

    Read are: transformers' ForSequenceClassification (TRL, Skywork-Reward-V2), the released
    WorldPM models (Qwen2ForRewardModel), OpenRLHF (value_head_prefix), value heads of TRL and
    LLaMA-Factory. A one-layer head gives the layout `portable`, which transformers, vLLM, SGLang,
    OpenRLHF, verl and TRL load unmodified; a two-layer head keeps the layout `qwen2-rm`.

    Every tensor is accounted for or the conversion is refused; no code of SOURCE is run. Memory
    stays small whatever the model's size, and an interrupted conversion goes on where it stopped.
    """
    from worldpm.log import logger, progress
    from worldpm.modeling.checkpoint_io import record_self_test
    from worldpm.modeling.conversion import convert, plan_conversion
    from worldpm.modeling.self_test import can_record

    plan = plan_conversion(source, _options(**options))
    lines = [
        f"layout {plan.source.layout} -> {plan.card.layout}, template {plan.card.template_name}",
        f"{plan.num_bytes:,} bytes in {len(plan.shards)} files",
        *(f"left out: {name} ({reason})" for name, reason in plan.source.dropped.items()),
    ]
    if dry_run:
        click.echo(f"source: {source}\ntarget: {target}")
        for line in lines:
            click.echo(f"# {line}")
        return
    for line in lines:
        logger.info(line)
    with progress(f"converting {source.name}", plan.num_bytes) as bar:
        finished = convert(plan, target, progress=bar)
    if finished:
        logger.info("%d files had been finished by an earlier run", finished)
    if can_record(plan.num_params):
        record_self_test(target)
    else:
        logger.info("large: record its self-test scores with `worldpm doctor %s --record`", target)
    logger.info("done: %s", target)


def _options(*, preset: str | None, template: str | None, shard_gb: float, **rest: Any) -> Any:
    from worldpm.modeling.conversion import ConversionOptions
    from worldpm.modeling.presets import find_preset

    shard_bytes = int(shard_gb * 1e9)
    if preset is None:
        return ConversionOptions(template=template, shard_bytes=shard_bytes, **rest)
    found = find_preset(preset)
    return ConversionOptions(
        template=template or found.template,
        shard_bytes=shard_bytes,
        expected_layout=found.layout,
        published_scores=found.published_scores,
        **rest,
    )
