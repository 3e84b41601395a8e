"""Start the runs of a sweep: here, on Slurm, or on a Ray cluster; each is one plain command.

A launcher gets the runs that are still missing. What came of them is read from their run records
afterwards, never from the launcher.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from scaling.grid import RunSpec
from scaling.sweep_config import LocalConfig
from worldpm.log import logger, progress

LOG_FILE = "output.log"
POLL_S = 0.5


class Launcher(Protocol):
    """Starts runs; blocks until they end or, with a queue, until they are accepted."""

    def launch(self, specs: Sequence[RunSpec]) -> dict[str, int]:
        """Start the runs; return exit codes by name for those whose end was awaited."""
        ...


def log_path(spec: RunSpec) -> Path:
    """Where a run's output goes: beside its directory, which the trainer owns."""
    return spec.directory.with_name(f"{spec.directory.name}.{LOG_FILE}")


class LocalLauncher:
    """Processes of this machine, at most `max_parallel` at once and within a memory bound.

    A run is started only while the memory of the running ones, each counted at its largest so far,
    leaves room for one more like the largest seen.
    """

    def __init__(self, config: LocalConfig) -> None:
        self._max_parallel = config.max_parallel
        self._num_processes = config.num_processes
        self._memory_bytes = None if config.memory_gb is None else config.memory_gb * 1e9

    def launch(self, specs: Sequence[RunSpec]) -> dict[str, int]:
        """Run everything; a failed run does not stop the others."""
        waiting, running = list(specs), dict[str, _Process]()
        codes: dict[str, int] = {}
        largest_bytes = 0.0
        try:
            with progress("runs", len(specs)) as bar:
                while waiting or running:
                    self._collect_ended(running, codes, bar.advance)
                    largest_bytes = max(
                        [largest_bytes, *(process.largest_bytes for process in running.values())]
                    )
                    if waiting and self._has_room(running, largest_bytes):
                        spec = waiting.pop(0)
                        logger.info("starting %s", spec.name)
                        running[spec.name] = _Process(spec, self._num_processes)
                    else:
                        time.sleep(POLL_S)
        finally:
            for process in running.values():
                process.stop()
        return codes

    def _has_room(self, running: dict[str, _Process], largest_bytes: float) -> bool:
        if not running:
            return True
        if len(running) >= self._max_parallel:
            return False
        if self._memory_bytes is None:
            return True
        used = sum(process.largest_bytes for process in running.values())
        # Until a run has shown what it needs, nothing is known: wait for it.
        return used > 0 and used + largest_bytes <= self._memory_bytes

    @staticmethod
    def _collect_ended(
        running: dict[str, _Process], codes: dict[str, int], advance: Callable[[], None]
    ) -> None:
        for name, process in list(running.items()):
            code = process.poll()
            if code is None:
                continue
            del running[name]
            codes[name] = code
            logger.info("%s ended with code %d", name, code)
            advance()


class _Process:
    """One run as a child process, its output in a log file."""

    def __init__(self, spec: RunSpec, num_processes: int) -> None:
        path = log_path(spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            log.write(f"$ {spec.command}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                spec.process_arguments(num_processes),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt reaches the runs through stop() only
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        self.largest_bytes = 0.0

    def poll(self) -> int | None:
        """The exit code, or None while it runs; notes its memory."""
        code = self._process.poll()
        if code is None:
            self.largest_bytes = max(self.largest_bytes, self._memory_bytes())
        return code

    def stop(self) -> None:
        """End the run: the trainer saves and marks itself interrupted on SIGTERM."""
        self._process.terminate()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _memory_bytes(self) -> float:
        try:
            root = psutil.Process(self._process.pid)
            family = [root, *root.children(recursive=True)]
            return float(sum(process.memory_info().rss for process in family))
        except psutil.Error:
            return 0.0
