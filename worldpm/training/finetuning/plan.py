"""What a fine-tuning run will take, from its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldpm.artifacts import read_json
from worldpm.training.architecture import read_architecture
from worldpm.training.finetuning.config import FinetuneConfig
from worldpm.training.finetuning.memory import BF16_BYTES, memory_per_gpu
from worldpm.training.flops import count_adapter, count_parameters

# GPUs of one node that a plan speaks of, and their memory in bytes.
GPU_BYTES = {"H100 80 GB": 80e9, "H200 141 GB": 141e9}


def plan_lines(config: FinetuneConfig) -> list[str]:
    """The plan of a dry run, a line each."""
    source = config.preferences.source
    lines = [
        f"reads {source.path} as {source.format}; shards in {config.data.path}",
        f"batch: {config.batch.pairs_per_step:,} pairs a step, {config.batch.epochs} epochs; keeps "
        f"the model of the lowest loss on {config.evaluation.keep_best}",
        f"writes {config.output_dir}: a run directory, comparison.json, comparison.md",
    ]
    architecture = _architecture(config)
    if architecture is None:
        return [*lines, f"no plan of memory: {config.model.init_from} is not here; name its shape"]
    return lines + memory_lines(config, architecture)


def memory_lines(config: FinetuneConfig, architecture: Mapping[str, Any]) -> list[str]:
    """What is trained, and the memory of one GPU of a node, term by term."""
    counts = count_parameters(architecture, config.model.head.kind)
    adapter = config.model.adapter
    trained = counts.total
    if adapter is not None:
        trained = counts.head + count_adapter(architecture, adapter)
    num_gpus = config.cluster.gpus
    terms = memory_per_gpu(config, architecture, num_gpus)
    total = sum(terms.values())
    fits = ", ".join(
        f"{name}: {'fits' if total < size else 'does NOT fit'}" for name, size in GPU_BYTES.items()
    )
    return [
        f"{counts.total:,} weights, {trained:,} of them trained "
        f"({'all' if adapter is None else f'{adapter.kind}, and the whole head'})",
        f"memory of each of {num_gpus} GPUs, estimated, ZeRO stage {config.deepspeed.stage}, rows "
        f"of {config.batch.token_budget:,} tokens:",
        *(f"  {name}: {size / 1e9:.1f} GB" for name, size in terms.items() if size),
        f"  together: {total / 1e9:.1f} GB ({fits})",
        *_host_lines(config, counts.total),
    ]


def _host_lines(config: FinetuneConfig, num_weights: int) -> list[str]:
    adapter = config.model.adapter
    if adapter is None or adapter.kind != "qlora":
        return []
    processes = min(config.cluster.gpus, config.cluster.gpus_per_node)
    copy = num_weights * BF16_BYTES / 1e9
    return [
        f"host memory of a node while loading: each of {processes} processes reads the weights in "
        f"bf16 and quantises them: {processes} × {copy:.0f} GB = {processes * copy:,.0f} GB"
    ]


def _architecture(config: FinetuneConfig) -> dict[str, Any] | None:
    if config.shape is not None:
        return read_architecture(config.shape)
    assert config.model.init_from is not None, "the configuration was checked"
    path: Path = config.model.init_from / "config.json"
    return read_json(path) if path.is_file() else None
