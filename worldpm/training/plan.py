"""What a run will take, from its configuration alone."""

from __future__ import annotations

from worldpm.training.architecture import describe_model
from worldpm.training.config import TrainConfig
from worldpm.training.flops import count_parameters

# What the plan assumes where the tokenizer is not known before the data is read.
ASSUMED_VOCABULARY = 8192


def plan_lines(config: TrainConfig) -> list[str]:
    """The plan of a dry run, a line each."""
    architecture = describe_model(config.model)
    known = architecture.get("vocab_size") is not None
    architecture.setdefault("vocab_size", ASSUMED_VOCABULARY)
    counts = count_parameters(architecture, config.model.head.kind)
    embedding = "" if known else f" (vocabulary of the data set; {ASSUMED_VOCABULARY:,} assumed)"
    return [
        f"model {architecture['name']}: {counts.total:,} parameters, "
        f"{counts.non_embedding:,} without the embedding{embedding}",
        f"batch: {config.batch.pairs_per_step:,} pairs a step, rows of up to "
        f"{config.batch.token_budget:,} tokens, {config.batch.epochs} epoch(s)",
        f"DeepSpeed: ZeRO stage {config.deepspeed.stage}, {config.model.precision}",
        f"writes {config.output_dir}: run.json, metrics.jsonl, evals/, checkpoints/, model/",
    ]
