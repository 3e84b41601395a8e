"""Who does the tasks of a stage: this machine's processes, the ranks of a Slurm array, or Ray.

All of them run the same `run_and_mark(stage, task)` over the same list of tasks, so the bytes do
not depend on the choice or on the number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from data_pipeline.config import ExecutorConfig
from data_pipeline.stage import (
    FINGERPRINT_FILE,
    Stage,
    missing_tasks,
    prepare,
    publish,
    run_and_mark,
)
from worldpm.errors import ArtifactError, ConfigError, MissingDependencyError, WorldPMError
from worldpm.log import progress

POLL_INTERVAL_S = 0.2


class Executor(Protocol):
    """Makes a stage whole."""

    @property
    def is_driver(self) -> bool:
        """Whether this process writes what belongs to the build as a whole."""
        ...

    def run(self, stage: Stage) -> None:
        """Do the tasks that are missing, then publish the stage.

        Raises:
            WorldPMError: a task found its input wrong.
        """
        ...


def available_cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_per_worker_mb(config: ExecutorConfig) -> int:
    """What one task's SQL may use before it spills."""
    workers = config.workers or available_cores()
    # Half: DuckDB goes over its limit on work with many texts.
    return max(128, int(config.memory_gb * 1000 / workers / 2))


def make_executor(config: ExecutorConfig) -> AbstractContextManager[Executor]:
    """The configured executor, as a context that ends its workers."""
    if config.kind == "slurm":
        return SlurmRank(
            _number(config.rank, "rank", "SLURM_ARRAY_TASK_ID"),
            _number(config.world_size, "world_size", "SLURM_ARRAY_TASK_COUNT"),
        )
    workers = config.workers or available_cores()
    if config.kind == "ray":
        return RayTasks(workers, config.ray_address)
    return LocalProcesses(workers)


def _number(configured: int | None, key: str, variable: str) -> int:
    if configured is not None:
        return configured
    value = os.environ.get(variable, "")
    if not value.isdigit():
        raise ConfigError(
            f"executor.{key} is not set and there is no {variable}: start this as a Slurm array "
            f"(sbatch --array=0-31), or set executor.{key}"
        )
    return int(value)


class _ContextExecutor:
    is_driver = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what was started."""


class LocalProcesses(_ContextExecutor):
    """Worker processes on this machine, started when a stage has more than one task."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> LocalProcesses:
        return self

    def run(self, stage: Stage) -> None:
        """Do the missing tasks in the pool, or here when one process is enough."""
        prepare(stage)
        tasks = missing_tasks(stage)
        with progress(stage.name, len(tasks)) as bar:
            if min(self._workers, len(tasks)) <= 1:
                for task in tasks:
                    run_and_mark(stage, task)
                    bar.advance()
            else:
                self._run_in_pool(stage, tasks, bar.advance)
        publish(stage)

    def _run_in_pool(self, stage: Stage, tasks: list[str], advance: Callable[[], Any]) -> None:
        if self._pool is None:
            # Not forked: threads of Arrow and DuckDB do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, mp_context=context)
        futures = [self._pool.submit(run_and_mark, stage, task) for task in tasks]
        for future in futures:
            future.add_done_callback(lambda _: advance())
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            future.cancel()
        # What runs has to end before anyone clears its directory away.
        wait(futures)
        for future in futures:
            if not future.cancelled():
                future.result()

    def close(self) -> None:
        """End the worker processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class SlurmRank(_ContextExecutor):
    """One of `world_size` processes that share a file system and run the same command.

    Rank r does every world_size-th task. Rank 0 prepares and publishes; the others wait for the
    files it leaves. A rank that fails leaves a note, so that none waits for it in vain.
    """

    def __init__(self, rank: int, world_size: int) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"executor.rank is {rank}: it must be below world_size {world_size}")
        self._rank = rank
        self._world_size = world_size
        self.is_driver = rank == 0

    def __enter__(self) -> SlurmRank:
        return self

    def run(self, stage: Stage) -> None:
        """Do this rank's share of the tasks, and wait until the stage is published."""
        partial = stage.partial_directory
        _failure_file(partial, self._rank).unlink(missing_ok=True)
        if self._rank == 0:
            prepare(stage)
        else:
            self._wait_for(stage, lambda: stage.is_whole or _is_prepared(stage))
        if stage.is_whole:
            return
        try:
            missing = set(missing_tasks(stage))  # of this rank's tasks no other rank marks one
            for task in stage.tasks()[self._rank :: self._world_size]:
                if task in missing:
                    run_and_mark(stage, task)
        except BaseException as exc:
            _failure_file(partial, self._rank).write_text(str(exc), encoding="utf-8")
            raise
        if self._rank == 0:
            self._wait_for(stage, lambda: not missing_tasks(stage))
            publish(stage)
        else:
            self._wait_for(stage, lambda: stage.is_whole)

    def _wait_for(self, stage: Stage, condition: Callable[[], bool]) -> None:
        while not condition():
            for rank in range(self._world_size):
                note = _failure_file(stage.partial_directory, rank)
                if rank != self._rank and note.is_file():
                    raise ArtifactError(
                        f"rank {rank} failed in {stage.name}: {note.read_text(encoding='utf-8')} "
                        f"(if that was an earlier attempt, remove {note})"
                    )
            time.sleep(POLL_INTERVAL_S)


def _is_prepared(stage: Stage) -> bool:
    note = stage.partial_directory / FINGERPRINT_FILE
    return note.is_file() and note.read_text(encoding="utf-8") == stage.fingerprint


def _failure_file(partial: Path, rank: int) -> Path:
    job = os.environ.get("SLURM_ARRAY_JOB_ID", "manual")
    return partial.with_name(f"{partial.name}.failed-{job}-{rank}")


class RayTasks(_ContextExecutor):
    """Ray tasks on a cluster whose machines share a file system."""

    def __init__(self, workers: int, address: str | None) -> None:
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as exc:
            raise MissingDependencyError("ray", "ray", "executor.kind=ray") from exc
        self._ray = ray
        self._workers = workers
        self._address = address

    def __enter__(self) -> RayTasks:
        options: dict[str, Any] = {"address": self._address} if self._address else {}
        if not self._address:
            options = {"num_cpus": self._workers, "include_dashboard": False}
        self._ray.init(log_to_driver=False, ignore_reinit_error=True, **options)
        return self

    def run(self, stage: Stage) -> None:
        """Do the missing tasks on the cluster, `workers` at once."""
        prepare(stage)
        remote = self._ray.remote(run_and_mark)
        running: list[Any] = []
        try:
            for task in missing_tasks(stage):
                if len(running) >= self._workers:
                    done, running = self._ray.wait(running, num_returns=1)
                    self._ray.get(done)
                running.append(remote.remote(stage, task))
            self._ray.get(running)
        except self._ray.exceptions.RayTaskError as exc:
            self._ray.wait(running, num_returns=len(running))
            if isinstance(exc.cause, WorldPMError | OSError):
                raise exc.cause from exc
            raise
        publish(stage)

    def close(self) -> None:
        """Leave the cluster; a cluster started here ends."""
        self._ray.shutdown()
