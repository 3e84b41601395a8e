"""Find where a run stopped and continue there, on as many ranks as there are now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldpm.errors import ArtifactError, ConfigError
from worldpm.log import logger
from worldpm.training.checkpointing import (
    STATES_TAG,
    Checkpoint,
    list_checkpoints,
    read_checkpoint,
    remove_unfinished,
)
from worldpm.training.collectives import all_reduce_max, barrier
from worldpm.training.config import TrainConfig
from worldpm.training.engine import Engine, Ranks
from worldpm.training.random_state import load_random_state
from worldpm.training.run_directory import check_same_run, first_difference
from worldpm.training.trajectory import trajectory
from worldpm.training.universal_checkpoint import convert_to_universal


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """A checkpoint to continue from; `universal` says that other ranks or stages wrote it."""

    checkpoint: Checkpoint
    universal: bool

    def load(self, engine: Engine, ranks: Ranks) -> None:
        """Load weights, optimizer and random generators, converting them first if need be."""
        self._load_engine(engine, ranks)
        load_random_state(self.checkpoint.folder / STATES_TAG, ranks.rank)

    def _load_engine(self, engine: Engine, ranks: Ranks) -> None:
        folder = self.checkpoint.folder
        if not self.universal:
            engine.load(folder, STATES_TAG)
            return
        converted = folder.with_name(f".{folder.name}.universal")
        if ranks.is_main:
            logger.info(
                "%s was written by %d ranks: converting it for %d",
                folder,
                self.checkpoint.world_size,
                ranks.world_size,
            )
            convert_to_universal(
                folder / STATES_TAG, converted / STATES_TAG, stage=self.checkpoint.stage
            )
        barrier()
        engine.load(converted, STATES_TAG)
        barrier()
        if ranks.is_main:
            remove_unfinished(folder.parent)


def find_resume_point(
    config: TrainConfig,
    data_fingerprint: str,
    directory: Path,
    ranks: Ranks,
    *,
    up_to_step: int | None = None,
) -> ResumePoint | None:
    """The newest intact checkpoint of the run, or the branch point of another; None to begin.

    `up_to_step` passes over checkpoints after more steps. All ranks must call.

    Raises:
        ConfigError: the checkpoint belongs to other settings, data, or an incompatible stage.
    """
    if up_to_step is None:
        if ranks.is_main:
            directory.mkdir(parents=True, exist_ok=True)
            remove_unfinished(directory)
        barrier()
    for checkpoint in reversed(list_checkpoints(directory)):
        too_late = up_to_step is not None and checkpoint.state.step > up_to_step
        if not too_late and _is_intact(checkpoint, ranks):
            check_same_run(
                config, data_fingerprint, checkpoint.trajectory, checkpoint.data_fingerprint
            )
            return ResumePoint(checkpoint, _needs_conversion(checkpoint, config, ranks))
    if config.checkpoint.branch_from is not None:
        return _branch_point(config, config.checkpoint.branch_from, data_fingerprint, ranks)
    return None


def _branch_point(
    config: TrainConfig, folder: Path, data_fingerprint: str, ranks: Ranks
) -> ResumePoint:
    checkpoint = read_checkpoint(folder)
    if not _is_intact(checkpoint, ranks):
        raise ArtifactError(f"checkpoint.branch_from: {folder} is damaged")
    found, wanted = dict(checkpoint.trajectory), trajectory(config)
    # A branch may end elsewhere and let its learning rate fall; all before is shared.
    for values in (found, wanted):
        values.pop("schedule")
        values["batch"] = {**values["batch"], "max_pairs": None}
    difference = first_difference(found, wanted)
    if difference is None and checkpoint.data_fingerprint != data_fingerprint:
        difference = "the data set"
    if difference is not None:
        raise ConfigError(
            f"checkpoint.branch_from: {folder} belongs to a run of other settings: "
            f"{difference} differs; a branch may change schedule and batch.max_pairs only"
        )
    return ResumePoint(checkpoint, _needs_conversion(checkpoint, config, ranks))


def _is_intact(checkpoint: Checkpoint, ranks: Ranks) -> bool:
    damaged = checkpoint.damaged_files(ranks.rank, ranks.world_size)
    for name in damaged:
        logger.warning("%s: %s is damaged; using an older one", checkpoint.folder, name)
    return all_reduce_max(float(len(damaged)), ranks.device) == 0


def _needs_conversion(checkpoint: Checkpoint, config: TrainConfig, ranks: Ranks) -> bool:
    stages = (checkpoint.stage, config.deepspeed.stage)
    # Stages 1 and 2 share one layout of states; 0 and 3 have their own.
    if stages[0] != stages[1] and set(stages) != {1, 2}:
        raise ConfigError(
            f"{checkpoint.folder} was written with deepspeed.stage {stages[0]}: continue with that "
            f"stage, not {stages[1]}"
        )
    return checkpoint.stage > 0 and checkpoint.world_size != ranks.world_size
