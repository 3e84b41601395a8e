"""Checkpoints for resuming: whole or absent, hashed, verified before an older one goes.

```
RUN/checkpoints/step-NNNNNNNN/manifest.json   run state, settings, hash of every file; written last
RUN/checkpoints/step-NNNNNNNN/states/         weights and optimizer, as DeepSpeed writes them
```
Every rank writes its own files; a thread hashes them, reads them back, and rank 0's thread gives
the folder its name once all ranks have reported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldpm.artifacts import Manifest, fingerprint, read_json, remove_directory, write_json
from worldpm.errors import ArtifactError
from worldpm.log import logger
from worldpm.training.config import CheckpointConfig
from worldpm.training.run_state import RunState

STATES_TAG = "states"
CHECKPOINT_KIND = "training_checkpoint"
# A file of this name in a checkpoint's folder saves it from removal: snapshots of spikes.
KEEP_MARK = "keep"
POLL_S = 0.05
COPY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint on the disk."""

    folder: Path
    state: RunState
    world_size: int
    stage: int
    trajectory: Mapping[str, Any]
    data_fingerprint: str
    files: Mapping[str, Mapping[str, Any]]

    def damaged_files(self, part: int = 0, num_parts: int = 1) -> list[str]:
        """The files whose bytes are not those written; ranks share the work by parts."""
        mine = sorted(self.files)[part::num_parts]
        return [name for name in mine if not _is_intact(self.folder / name, self.files[name])]


def list_checkpoints(directory: Path) -> list[Checkpoint]:
    """All whole checkpoints, the oldest first."""
    return [read_checkpoint(folder) for folder in sorted(directory.glob("step-*"))]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's manifest.

    Raises:
        ArtifactError: there is none.
    """
    manifest = Manifest.read(folder)
    return Checkpoint(
        folder=folder,
        state=RunState.from_json(manifest.counts),
        world_size=manifest.config["world_size"],
        stage=manifest.config["stage"],
        trajectory=manifest.config["trajectory"],
        data_fingerprint=manifest.inputs["data_fingerprint"],
        files=manifest.files,
    )


def checkpoint_folder(directory: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps stands."""
    return directory / f"step-{step:08d}"


@dataclass(frozen=True, slots=True)
class CheckpointIdentity:
    """What a checkpoint says about the run that wrote it."""

    rank: int
    world_size: int
    stage: int
    trajectory: Mapping[str, Any]
    data_fingerprint: str


class CheckpointWriter:
    """Writes checkpoints in the background and keeps the configured number of them.

    `save` returns when the states are on the disk (or in the staging folder); `wait` when the
    checkpoint has its name. A failure of the thread is raised by the next call of either.
    """

    def __init__(
        self,
        directory: Path,
        config: CheckpointConfig,
        identity: CheckpointIdentity,
        *,
        timeout_s: float = 1800.0,
    ) -> None:
        self._directory = directory
        self._config = config
        self._identity = identity
        self._timeout_s = timeout_s
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def save(
        self,
        state: RunState,
        write_states: Callable[[Path, str], None],
        meet: Callable[[], None],
        *,
        keep: bool = False,
    ) -> float:
        """Save on all ranks together; returns the seconds for which training stood still.

        `write_states(folder, tag)` writes this rank's states below `folder/tag`; `meet` waits for
        all ranks; `keep` saves the checkpoint from removal. A checkpoint of this step that stands
        already is not written again.
        """
        started_s = time.perf_counter()
        self.wait()
        meet()
        final = checkpoint_folder(self._directory, state.step)
        if final.exists():
            if keep:
                (final / KEEP_MARK).touch()
            return time.perf_counter() - started_s
        hidden = self._directory / f".step-{state.step:08d}.partial"
        if self._identity.rank == 0:
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir(parents=True)
        meet()
        if keep and self._identity.rank == 0:
            (hidden / KEEP_MARK).touch()
        staged = self._staging_folder(hidden, state.step)
        write_states(staged, STATES_TAG)
        self._thread = threading.Thread(
            target=self._run_finish, args=(staged, hidden, state), name="checkpoint", daemon=False
        )
        self._thread.start()
        return time.perf_counter() - started_s

    def wait(self) -> None:
        """Wait for the checkpoint under way.

        Raises:
            ArtifactError: a file read back differently, or a rank did not report.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _staging_folder(self, hidden: Path, step: int) -> Path:
        rank = self._identity.rank
        if self._config.staging is None:
            return hidden / f"rank-{rank}"
        # The run's path keeps two runs on one machine apart.
        run = fingerprint(str(self._directory.absolute()))[:16]
        folder = self._config.staging / f"worldpm-{run}-step-{step}-rank-{rank}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def _run_finish(self, staged: Path, hidden: Path, state: RunState) -> None:
        try:
            self._finish(staged, hidden, state)
        except BaseException as exc:  # noqa: BLE001  carried to the training loop and raised there
            self._failure = exc

    def _finish(self, staged: Path, hidden: Path, state: RunState) -> None:
        files: dict[str, dict[str, Any]] = {}
        for path in sorted((staged / STATES_TAG).rglob("*")):
            if path.is_file():
                name = path.relative_to(staged).as_posix()
                files[name] = _place(path, hidden / name)
        shutil.rmtree(staged)
        write_json(hidden / f"rank-{self._identity.rank}.json", files)
        if self._identity.rank == 0:
            self._publish(hidden, state)

    def _publish(self, hidden: Path, state: RunState) -> None:
        files = self._collect_reports(hidden)
        identity = self._identity
        Manifest(
            kind=CHECKPOINT_KIND,
            fingerprint=fingerprint(identity.trajectory, identity.data_fingerprint, state.step),
            config={
                "world_size": identity.world_size,
                "stage": identity.stage,
                "trajectory": dict(identity.trajectory),
            },
            inputs={"data_fingerprint": identity.data_fingerprint},
            counts=state.to_json(),
            files=dict(sorted(files.items())),
        ).write(hidden)
        hidden.rename(checkpoint_folder(self._directory, state.step))
        self._remove_old()

    def _collect_reports(self, hidden: Path) -> dict[str, Any]:
        files: dict[str, Any] = {}
        deadline_s = time.monotonic() + self._timeout_s
        for rank in range(self._identity.world_size):
            report = hidden / f"rank-{rank}.json"
            while not report.exists():
                if time.monotonic() > deadline_s:
                    raise ArtifactError(
                        f"{hidden}: rank {rank} did not finish its part within "
                        f"{self._timeout_s:.0f} s; is the run directory shared by all machines?"
                    )
                time.sleep(POLL_S)
            files |= read_json(report)
            report.unlink()
        return files

    def _remove_old(self) -> None:
        checkpoints = list_checkpoints(self._directory)
        for checkpoint in checkpoints[: -self._config.keep_last]:
            if not self._is_kept(checkpoint, checkpoints):
                remove_directory(checkpoint.folder)

    def _is_kept(self, checkpoint: Checkpoint, all_of_them: list[Checkpoint]) -> bool:
        every = self._config.keep_every_pairs
        if (checkpoint.folder / KEEP_MARK).exists():
            return True
        if every is None:
            return False
        position = all_of_them.index(checkpoint)
        before = all_of_them[position - 1].state.num_pairs if position else 0
        return checkpoint.state.num_pairs // every > before // every


def _place(source: Path, target: Path) -> dict[str, Any]:
    """Move or copy a file to its place and read it back; returns its size and hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = _sha256(source)
    if source.stat().st_dev == target.parent.stat().st_dev:
        source.replace(target)
    else:
        shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    if _sha256(target) != digest:
        raise ArtifactError(
            f"{target} reads back differently from what was written: check the disk"
        )
    return {"bytes": target.stat().st_size, "sha256": digest}


def _is_intact(path: Path, description: Mapping[str, Any]) -> bool:
    if not path.is_file() or path.stat().st_size != description["bytes"]:
        return False
    return _sha256(path) == description["sha256"]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(COPY_BYTES):
            digest.update(block)
    return digest.hexdigest()


def remove_unfinished(directory: Path) -> None:
    """Remove what a killed run left half-written, and conversions that are no longer needed."""
    for folder in directory.glob(".step-*"):
        logger.info("removing the unfinished checkpoint %s", folder)
        shutil.rmtree(folder)
