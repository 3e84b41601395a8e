"""What a run will take on a named cluster, from its configuration alone: `worldpm plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from worldpm.artifacts import Manifest
from worldpm.errors import ConfigError
from worldpm.training.architecture import describe_model
from worldpm.training.config import TrainConfig
from worldpm.training.flops import ParameterCounts, count_parameters, training_flops
from worldpm.training.memory import GIB, MemoryPlan, activation_bytes, state_memory

# What the plan assumes where the tokenizer is not known before the data is read.
ASSUMED_VOCABULARY = 8192
# The part of a GPU's memory that allocator, kernels and communication buffers leave to the run.
USABLE_SHARE = 0.9
# bf16 weights, fp32 master weights and two moments.
CHECKPOINT_BYTES_PER_WEIGHT = 14
BUDGETS = (65_536, 32_768, 16_384, 8_192, 4_096)


@dataclass(frozen=True, slots=True)
class Gpu:
    """Memory in bytes and dense bf16 peak in FLOP/s, by the vendor's data sheet."""

    memory: float
    peak_flops: float


GPUS = {
    "h100-80g": Gpu(80e9, 989e12),
    "h200-141g": Gpu(141e9, 989e12),
    "b200-180g": Gpu(180e9, 2250e12),
    "a100-80g": Gpu(80e9, 312e12),
    "a100-40g": Gpu(40e9, 312e12),
    "l40s-48g": Gpu(48e9, 362e12),
}


@dataclass(frozen=True, slots=True)
class RunPlan:
    """The numbers of a plan; `fits` says whether the configured settings do."""

    model_name: str
    counts: ParameterCounts
    memory: MemoryPlan
    gpu: Gpu
    fits: bool
    suggested_stage: int | None
    suggested_budget: int | None
    num_pairs: int
    num_tokens: float
    num_steps: int
    flops: float
    hours: float
    gpu_hours: float
    cost: float
    checkpoint_bytes: float
    checkpoint_stall_s: float


def make_plan(config: TrainConfig) -> RunPlan:
    """Plan a run on `config.cluster`.

    Raises:
        ConfigError: the GPU is unknown or the architecture file is wrong.
    """
    cluster = config.cluster
    if cluster.gpu not in GPUS:
        raise ConfigError(f"cluster.gpu is {cluster.gpu!r}; known: {', '.join(GPUS)}")
    gpu = GPUS[cluster.gpu]
    architecture = describe_model(config.model)
    architecture.setdefault("vocab_size", ASSUMED_VOCABULARY)
    counts = count_parameters(architecture, config.model.head.kind)
    memory = plan_memory(config, architecture, config.deepspeed.stage, config.batch.token_budget)
    stage, budget = _suggest(config, architecture, gpu)
    num_pairs, num_tokens = _amount_of_data(config)
    # A token attends to half of the tokens of its sequence on average.
    num_attended = num_tokens * cluster.mean_sequence_tokens / 2
    flops = training_flops(
        architecture,
        num_tokens=num_tokens,
        num_attended=num_attended,
        adapter=config.model.adapter,
    )
    gpu_hours = flops / (gpu.peak_flops * cluster.mfu) / 3600
    checkpoint = CHECKPOINT_BYTES_PER_WEIGHT * counts.total
    return RunPlan(
        model_name=architecture["name"],
        counts=counts,
        memory=memory,
        gpu=gpu,
        fits=memory.total <= USABLE_SHARE * gpu.memory,
        suggested_stage=stage,
        suggested_budget=budget,
        num_pairs=num_pairs,
        num_tokens=num_tokens,
        num_steps=-(-num_pairs // config.batch.pairs_per_step),
        flops=flops,
        hours=gpu_hours / cluster.gpus,
        gpu_hours=gpu_hours,
        cost=gpu_hours * cluster.price_per_gpu_hour,
        checkpoint_bytes=checkpoint,
        checkpoint_stall_s=_stall_s(config, checkpoint),
    )


def plan_memory(
    config: TrainConfig, architecture: Mapping[str, Any], stage: int, token_budget: int
) -> MemoryPlan:
    """Memory of one GPU at a ZeRO stage and row length."""
    section = config.deepspeed
    states = state_memory(
        architecture,
        stage=stage,
        num_gpus=config.cluster.gpus,
        gpus_per_node=config.cluster.gpus_per_node,
        precision=config.model.precision,
        offload_optimizer=section.offload_optimizer != "none",
        offload_parameters=section.offload_parameters != "none",
        head=config.model.head.kind,
    )
    activations = activation_bytes(
        architecture,
        num_tokens=token_budget,
        precision=config.model.precision,
        checkpointing=config.model.activation_checkpointing,
    )
    return replace(states, activations=activations)


def _suggest(
    config: TrainConfig, architecture: Mapping[str, Any], gpu: Gpu
) -> tuple[int | None, int | None]:
    """The lowest stage (less communication) that fits with a row of 4 Ki tokens, and its row."""
    usable = USABLE_SHARE * gpu.memory
    for stage in (1, 2, 3):
        for budget in BUDGETS:
            if plan_memory(config, architecture, stage, budget).total <= usable:
                return stage, budget
    return None, None


def _amount_of_data(config: TrainConfig) -> tuple[int, float]:
    """Pairs and tokens of the data set where it is there, else as `cluster` assumes."""
    folder = Path(config.data.path) / "shards" / "train"
    epochs = config.batch.epochs
    if (folder / "manifest.json").is_file():
        counts = Manifest.read(folder).counts
        return counts["num_pairs"] * epochs, float(counts["num_tokens"]) * epochs
    cluster = config.cluster
    return cluster.pairs * epochs, float(cluster.pairs) * cluster.tokens_per_pair * epochs


def _stall_s(config: TrainConfig, checkpoint_bytes: float) -> float:
    cluster = config.cluster
    if config.checkpoint.staging is None:
        return checkpoint_bytes / (cluster.storage_gb_per_s * 1e9)
    nodes = -(-cluster.gpus // cluster.gpus_per_node)
    return checkpoint_bytes / nodes / (cluster.staging_gb_per_s * 1e9)


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


def report_lines(config: TrainConfig, plan: RunPlan) -> list[str]:
    """The plan for people, a line each."""
    memory, cluster = plan.memory, config.cluster
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "gathered layer": memory.gathered,
        "activations": memory.activations,
    }
    lines = [
        f"model            {plan.model_name}: {plan.counts.total:,} parameters "
        f"({plan.counts.non_embedding:,} without the embedding)",
        f"cluster          {cluster.gpus} × {cluster.gpu} "
        f"({plan.gpu.memory / 1e9:.0f} GB, {plan.gpu.peak_flops / 1e12:.0f} TFLOP/s in bf16)",
        f"memory per GPU   {memory.total / GIB:.1f} GiB at ZeRO stage {config.deepspeed.stage}, "
        f"{config.model.precision}, rows of {config.batch.token_budget:,} tokens: "
        + ("fits" if plan.fits else "DOES NOT FIT"),
        *(f"  {name:<15}{size / GIB:9.2f} GiB" for name, size in parts.items()),
    ]
    if memory.host_per_node:
        lines.append(f"host per node    {memory.host_per_node / GIB:.0f} GiB for offloaded states")
    if plan.suggested_stage is None:
        lines.append(
            "suggestion       nothing fits: more GPUs, activation checkpointing or offload"
        )
    else:
        lines.append(
            f"suggestion       deepspeed.stage={plan.suggested_stage} "
            f"batch.token_budget={plan.suggested_budget}"
        )
    return [
        *lines,
        f"data             {plan.num_pairs:,} pairs, {plan.num_tokens / 1e9:,.2f} G tokens, "
        f"{plan.num_steps:,} steps of {config.batch.pairs_per_step:,} pairs",
        f"compute          {plan.flops:.3e} FLOP; at MFU {cluster.mfu:.0%} "
        f"{plan.gpu_hours:,.0f} GPU-hours, {plan.hours:,.1f} hours, "
        f"{plan.cost:,.0f} at {cluster.price_per_gpu_hour} an hour",
        f"checkpoint       {plan.checkpoint_bytes / 1e9:,.1f} GB; training stands "
        f"{plan.checkpoint_stall_s:,.1f} s for each",
    ]
