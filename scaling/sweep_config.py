"""The configuration of a sweep: the grid of runs and what launches them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from worldpm.config import ConfigModel


class SizeConfig(ConfigModel):
    """One size of the ladder: the keys of the training configuration that make it.

    `seeds` replaces the sweep's; `architecture` tells the plan the shape of a model folder
    (`model.init_from`) that need not be on this machine.
    """

    overrides: dict[str, Any]
    architecture: Path | None = None
    seeds: tuple[int, ...] | None = None


class DecayConfig(ConfigModel):
    """Runs that end with a decaying rate, for the end-of-training points of that recipe.

    Each is a run of its own over one of `pairs`, whose rate falls over the last `fraction`.
    """

    pairs: tuple[int, ...]
    fraction: float = Field(default=0.2, gt=0, le=1)


class LocalConfig(ConfigModel):
    """Runs on this machine, `max_parallel` at once within `memory_gb`, each of `num_processes`."""

    kind: Literal["local"] = "local"
    num_processes: int = Field(default=1, ge=1)
    max_parallel: int = Field(default=1, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)


class SlurmConfig(ConfigModel):
    """One array job a sweep: a task a run, put back into the queue when preempted."""

    kind: Literal["slurm"]
    partition: str | None = None
    account: str | None = None
    time: str = "24:00:00"
    nodes: int = Field(default=1, ge=1)
    gpus_per_node: int = Field(default=8, ge=0)
    cpus_per_task: int = Field(default=16, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)
    max_parallel: int = Field(default=8, ge=1)
    grace_s: int = Field(default=300, ge=10)
    setup: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


class RayConfig(ConfigModel):
    """Runs as jobs of a Ray cluster."""

    kind: Literal["ray"]
    address: str
    num_cpus: float = Field(default=1, ge=0)
    num_gpus: float = Field(default=0, ge=0)
    poll_s: float = Field(default=10, gt=0)


class PlanConfig(ConfigModel):
    """What `sweep plan` assumes where it cannot know.

    `machine_flops` is the speed of the whole machine in FLOP/s, as measured; without it, it follows
    from the cluster section of the training configuration. `vocab_size` is for architectures that
    leave it to the data's tokenizer.
    """

    machine_flops: float | None = Field(default=None, gt=0)
    assumed_peak_flops: float = Field(default=1e14, gt=0)
    vocab_size: int = Field(default=8192, ge=1)


class SweepData(ConfigModel):
    """The output of `worldpm data build` that all runs read."""

    path: str


def _launcher_kind(value: Any) -> str:
    return value.get("kind", "local") if isinstance(value, dict) else value.kind


LauncherConfig = Annotated[
    Annotated[LocalConfig, Tag("local")]
    | Annotated[SlurmConfig, Tag("slurm")]
    | Annotated[RayConfig, Tag("ray")],
    Discriminator(_launcher_kind),
]


class SweepConfig(ConfigModel):
    """A sweep; `train` names the configuration that every run starts from.

    `overrides` are keys of that configuration for all runs, `variants` further named sets of keys
    (a size × seed × scale is run once for each), `max_pairs` the data scales (null: all data).
    """

    name: str
    output_dir: Path
    train: Path
    data: SweepData
    sizes: dict[str, SizeConfig]
    seeds: tuple[int, ...] = (0,)
    max_pairs: tuple[int | None, ...] = (None,)
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    overrides: dict[str, Any] = Field(default_factory=dict)
    decay: DecayConfig | None = None
    plan: PlanConfig = PlanConfig()
    launcher: LauncherConfig = LocalConfig()
    max_retries: int = Field(default=0, ge=0)
