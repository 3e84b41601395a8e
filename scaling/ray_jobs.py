"""Sweeps as jobs of a Ray cluster: each run is a submitted command."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from scaling.grid import RunSpec
from scaling.launchers import log_path
from scaling.sweep_config import RayConfig
from worldpm.artifacts import atomic_file
from worldpm.errors import ConfigError, MissingDependencyError
from worldpm.log import logger, progress

SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "STOPPED")


class RayLauncher:
    """Submits every run and waits for all; Ray queues what does not fit."""

    def __init__(self, config: RayConfig, client: Any | None = None) -> None:
        self._config = config
        self._client = client if client is not None else _connect(config.address)

    def launch(self, specs: Sequence[RunSpec]) -> dict[str, int]:
        """Run everything; logs are copied beside the run directories."""
        jobs: dict[str, tuple[RunSpec, str]] = {}
        for spec in specs:
            job = self._client.submit_job(
                entrypoint=spec.command,
                entrypoint_num_cpus=self._config.num_cpus,
                entrypoint_num_gpus=self._config.num_gpus,
                metadata={"name": spec.name},
            )
            jobs[spec.name] = spec, job
            logger.info("%s is job %s", spec.name, job)
        codes: dict[str, int] = {}
        with progress("runs", len(specs)) as bar:
            while len(codes) < len(jobs):
                for name, (spec, job) in jobs.items():
                    if name not in codes and self._status(job) in ENDED:
                        codes[name] = 0 if self._status(job) == SUCCEEDED else 1
                        self._copy_log(spec, job)
                        bar.advance()
                if len(codes) < len(jobs):
                    time.sleep(self._config.poll_s)
        return codes

    def _status(self, job: str) -> str:
        status = self._client.get_job_status(job)
        return str(getattr(status, "value", status))

    def _copy_log(self, spec: RunSpec, job: str) -> None:
        with atomic_file(log_path(spec)) as file:
            file.write(self._client.get_job_logs(job))


def _connect(address: str) -> Any:
    try:
        from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]
        from ray.job_submission import (  # pyright: ignore[reportMissingImports]
            JobSubmissionClient,
        )
    except ImportError as exc:
        raise MissingDependencyError("ray", "ray", "launcher.kind: ray") from exc
    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, RayError) as exc:
        # No answer, a cluster that wants a token, or a Ray without its jobs interface.
        raise ConfigError(
            f"launcher.address: no Ray cluster takes jobs at {address}: {exc}"
        ) from exc
