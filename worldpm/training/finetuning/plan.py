"""What a fine-tuning run will take, from its configuration alone."""

from __future__ import annotations

from worldpm.training.finetuning.config import FinetuneConfig


def plan_lines(config: FinetuneConfig) -> list[str]:
    """The plan of a dry run, a line each."""
    source = config.preferences.source
    return [
        f"reads {source.path} as {source.format}; shards in {config.data.path}",
        f"batch: {config.batch.pairs_per_step:,} pairs a step, {config.batch.epochs} epochs; keeps "
        f"the model of the lowest loss on {config.evaluation.keep_best}",
    ]
