"""What a run will need: weights, data, compute, memory of a device, hours, money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.grid import RunSpec
from scaling.sweep_config import SweepConfig
from worldpm.artifacts import Manifest
from worldpm.errors import ArtifactError
from worldpm.training.architecture import describe_model, read_architecture
from worldpm.training.config import TrainConfig
from worldpm.training.flops import count_parameters, training_flops
from worldpm.training.monitor import peak_flops

# Bytes of activations a layer keeps for each token and unit of width, 16-bit, without the attention
# matrix, which packed attention never stores (Korthikanti et al. 2022, equation 2).
ACTIVATION_BYTES = 34


@dataclass(frozen=True, slots=True)
class DataScale:
    """How much data the runs read, and where the numbers come from."""

    num_pairs: int
    tokens_per_pair: float
    source: str


@dataclass(frozen=True, slots=True)
class RunCost:
    """The needs of one run; `memory_gb` is of one device, `hours` of the whole machine."""

    num_params: int
    num_params_non_embedding: int
    num_pairs: int
    num_tokens: float
    flops: float
    memory_gb: float
    hours: float
    cost: float


def data_scale(config: SweepConfig, train: TrainConfig) -> DataScale:
    """Counts of the built data where it is at hand, else the assumptions of `cluster`."""
    directory = Path(config.data.path) / "shards" / "train"
    try:
        counts = Manifest.read(directory).counts
        return DataScale(
            num_pairs=int(counts["num_pairs"]),
            tokens_per_pair=counts["num_tokens"] / max(counts["num_pairs"], 1),
            source=f"counted in {directory}",
        )
    except ArtifactError:
        cluster = train.cluster
        return DataScale(
            cluster.pairs, cluster.tokens_per_pair, "assumed by the configuration's cluster section"
        )


def run_cost(spec: RunSpec, scale: DataScale, config: SweepConfig) -> RunCost:
    """Estimate one run.

    Hours are FLOPs over `gpus` × peak × `mfu`; memory is weights, gradients and Adam's states as
    ZeRO spreads them, plus activations of one micro-batch.
    """
    train = spec.config
    cluster = train.cluster
    shape = config.sizes[spec.size].architecture
    architecture = describe_model(train.model) if shape is None else read_architecture(shape)
    architecture.setdefault("vocab_size", config.plan.vocab_size)
    counts = count_parameters(architecture, train.model.head.kind)
    available = scale.num_pairs * train.batch.epochs
    pairs = min(available, train.batch.max_pairs or available)
    num_tokens = pairs * scale.tokens_per_pair
    flops = training_flops(
        architecture,
        num_tokens=num_tokens,
        num_attended=num_tokens * cluster.mean_sequence_tokens / 2,
    )
    hours = flops / _machine_flops(config, train) / 3600
    state_gb = state_bytes(counts.total, train) / 1e9
    return RunCost(
        num_params=counts.total,
        num_params_non_embedding=counts.non_embedding,
        num_pairs=pairs,
        num_tokens=num_tokens,
        flops=flops,
        memory_gb=state_gb + activation_bytes(architecture, train) / 1e9,
        hours=hours,
        cost=hours * cluster.gpus * cluster.price_per_gpu_hour,
    )


def state_bytes(num_params: int, train: TrainConfig) -> float:
    """Weights, gradients and optimizer states on one device (Rajbhandari et al. 2020, table 1).

    In bfloat16: 2 bytes of weights, 2 of gradients, 12 of fp32 master weights and Adam's moments;
    in float32: 4, 4 and 8.
    """
    weights, gradients, states = (2, 2, 12) if train.model.precision == "bfloat16" else (4, 4, 8)
    devices, stage = train.cluster.gpus, train.deepspeed.stage
    if train.deepspeed.offload_optimizer != "none":
        states = 0
    if train.deepspeed.offload_parameters != "none":
        weights = 0
    return num_params * (
        weights / (devices if stage == 3 else 1)
        + gradients / (devices if stage >= 2 else 1)
        + states / (devices if stage >= 1 else 1)
    )


def activation_bytes(architecture: Mapping[str, Any], train: TrainConfig) -> float:
    """Activations of one micro-batch: all layers, or with checkpointing their inputs and one."""
    unit = float(train.batch.token_budget * architecture["hidden_size"])
    unit *= 1 if train.model.precision == "bfloat16" else 2
    layers = architecture["num_hidden_layers"]
    if train.model.activation_checkpointing:
        return unit * (2 * layers + ACTIVATION_BYTES)
    return unit * ACTIVATION_BYTES * layers


def _machine_flops(config: SweepConfig, train: TrainConfig) -> float:
    if config.plan.machine_flops is not None:
        return config.plan.machine_flops
    name = train.cluster.gpu.upper().split("-")[0]
    peak = peak_flops(name) or config.plan.assumed_peak_flops
    return train.cluster.gpus * peak * train.cluster.mfu
