"""Plan a sweep, launch what is missing of it, and say from run records how far it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaling.grid import RunSpec, make_grid
from scaling.launchers import Launcher, LocalLauncher, log_path
from scaling.ray_jobs import RayLauncher
from scaling.slurm import SlurmLauncher
from scaling.sweep_config import LocalConfig, SlurmConfig, SweepConfig
from worldpm.artifacts import MANIFEST_NAME
from worldpm.errors import ArtifactError, ConfigError
from worldpm.run_record import RUN_FILE, RunRecord

NUM_LOG_LINES = 15
MAX_LOG_LINE = 500

State = Literal["missing", "running", "interrupted", "failed", "completed", "unreadable"]


@dataclass(frozen=True, slots=True)
class RunState:
    """How far one run of the sweep is; `detail` holds a failed run's last lines."""

    spec: RunSpec
    state: State
    step: int = 0
    num_steps: int = 0
    num_pairs: int = 0
    wall_s: float = 0.0
    detail: str = ""


def sweep_status(config: SweepConfig) -> list[RunState]:
    """The state of every run, from its run record alone."""
    return [run_state(spec) for spec in make_grid(config)]


def run_state(spec: RunSpec) -> RunState:
    """The state of one run.

    A run that failed before it wrote a record has none: its log tells, and it counts as failed.
    """
    if not (spec.directory / RUN_FILE).exists():
        lines = last_log_lines(log_path(spec))
        return RunState(spec, "failed" if lines else "missing", detail=lines)
    try:
        record = RunRecord.read(spec.directory)
    except ArtifactError as exc:
        return RunState(spec, "unreadable", detail=str(exc))
    detail = ""
    if record.status == "failed":
        detail = "\n".join(filter(None, [record.message, last_log_lines(log_path(spec))]))
    return RunState(
        spec=spec,
        state=record.status,
        step=record.step,
        num_steps=record.num_steps,
        num_pairs=record.num_pairs,
        wall_s=record.wall_s,
        detail=detail,
    )


def launch_sweep(config: SweepConfig) -> list[RunState]:
    """Start every run that is not completed, wait for those that can be waited for, report all.

    Runs that fail are started again `max_retries` times; the trainer goes on from its last
    checkpoint.
    """
    specs = make_grid(config)
    launcher = make_launcher(config)
    if isinstance(config.launcher, LocalConfig):
        _check_data(specs)
    for _ in range(1 + config.max_retries):
        wanted = [spec for spec in specs if run_state(spec).state != "completed"]
        if not wanted:
            break
        codes = launcher.launch(wanted)
        if not any(codes.values()):
            break
    return [run_state(spec) for spec in specs]


def _check_data(specs: Sequence[RunSpec]) -> None:
    # One message now instead of one failed run after the other.
    for path in {spec.config.data.path for spec in specs}:
        if "://" not in path and not (Path(path) / "shards" / "train" / MANIFEST_NAME).is_file():
            raise ConfigError(
                f"data.path is {path}: no data set stands there; build one with "
                f"`worldpm data build … output_dir={path}`"
            )


def make_launcher(config: SweepConfig) -> Launcher:
    """The launcher of a sweep's `launcher` section."""
    if isinstance(config.launcher, LocalConfig):
        return LocalLauncher(config.launcher)
    if isinstance(config.launcher, SlurmConfig):
        return SlurmLauncher(config.launcher, name=config.name, output_dir=config.output_dir)
    return RayLauncher(config.launcher)


def count_states(states: Sequence[RunState]) -> dict[State, int]:
    """How many runs are in which state."""
    counts: dict[State, int] = {}
    for state in states:
        counts[state.state] = counts.get(state.state, 0) + 1
    return counts


def last_log_lines(path: Path) -> str:
    """The end of a run's log; empty where there is none."""
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = deque((line.rstrip()[:MAX_LOG_LINE] for line in file), maxlen=NUM_LOG_LINES)
    return "\n".join(lines)
