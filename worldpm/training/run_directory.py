"""The run directory: what a start finds there, and the run record that it keeps up to date."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worldpm.artifacts import atomic_file, fingerprint
from worldpm.config import to_yaml
from worldpm.errors import ConfigError
from worldpm.run_record import (
    CONFIG_FILE,
    RUN_FILE,
    RunRecord,
    RunStatus,
)
from worldpm.training.config import TrainConfig
from worldpm.training.run_state import RunState
from worldpm.training.trajectory import select_trajectory, trajectory


@dataclass(frozen=True, slots=True)
class RunDescription:
    """What stays the same over a run, for its record."""

    config: TrainConfig
    model_name: str
    num_params: int
    num_params_non_embedding: int
    num_steps: int
    data_fingerprint: str
    world_size: int
    environment: Mapping[str, Any]
    head_state: str

    def write_record(self, state: RunState, status: RunStatus, message: str = "") -> None:
        """Write `run.json` for this state."""
        RunRecord(
            name=self.config.name,
            status=status,
            model_name=self.model_name,
            num_params=self.num_params,
            num_params_non_embedding=self.num_params_non_embedding,
            seed=self.config.seed,
            step=state.step,
            num_steps=self.num_steps,
            num_pairs=state.num_pairs,
            num_tokens=state.num_tokens,
            flops=state.flops,
            pair_chain=state.pair_chain,
            data_fingerprint=self.data_fingerprint,
            world_size=self.world_size,
            wall_s=state.wall_s,
            config=self.config.model_dump(mode="json"),
            environment=self.environment,
            message=message,
            head_state=self.head_state,
        ).write(self.config.output_dir)


def find_finished(config: TrainConfig, data_fingerprint: str) -> RunRecord | None:
    """The record of this very run if it is complete; None if there is something to do.

    Raises:
        ConfigError: the directory holds a run of other settings or data.
    """
    if not (config.output_dir / RUN_FILE).exists():
        return None
    record = RunRecord.read(config.output_dir)
    check_same_run(
        config, data_fingerprint, select_trajectory(record.config), record.data_fingerprint
    )
    return record if record.status == "completed" else None


def check_same_run(
    config: TrainConfig,
    data_fingerprint: str,
    found_trajectory: Mapping[str, Any],
    found_data: str,
) -> None:
    """Refuse to continue a run under settings that would change its numbers.

    Raises:
        ConfigError: naming the first key that differs, or the data.
    """
    difference = first_difference(found_trajectory, trajectory(config))
    if difference is None and found_data != data_fingerprint:
        difference = "the data set"
    if difference is not None:
        raise ConfigError(
            f"{config.output_dir} holds a run of other settings: {difference} differs; "
            "choose another output_dir, or remove the folder to start again"
        )


def first_difference(found: Any, wanted: Any, where: str = "") -> str | None:
    """The first key in which two nested mappings differ, with both values."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in sorted({*found, *wanted}):
            inside = f"{where}.{key}" if where else str(key)
            difference = first_difference(found.get(key), wanted.get(key), inside)
            if difference is not None:
                return difference
        return None
    return None if fingerprint(found) == fingerprint(wanted) else f"{where} ({found} → {wanted})"


def write_config(config: TrainConfig) -> None:
    """Write the resolved configuration beside the record."""
    config.output_dir.mkdir(parents=True, exist_ok=True)
    with atomic_file(config.output_dir / CONFIG_FILE) as file:
        file.write(to_yaml(config))
