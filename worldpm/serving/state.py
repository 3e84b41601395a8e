"""Whether the server is ready: it loads, tests itself, serves, and finishes what it accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

from worldpm.log import logger
from worldpm.serving.config import ServerConfig
from worldpm.serving.errors import RefusalError
from worldpm.serving.jobs import JobStore
from worldpm.serving.metrics import ServerMetrics
from worldpm.serving.service import ScoringModel, ScoringService

Status = Literal["loading", "ready", "failed", "stopping"]


class ServerState:
    """One server's life; `load` loads the model and raises where its self-test fails."""

    def __init__(
        self,
        load: Callable[[], ScoringModel],
        config: ServerConfig,
        *,
        model_name: str,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.config = config
        self.model_name = model_name
        self.metrics = ServerMetrics()
        self.status: Status = "loading"
        self._load = load
        self._on_failure = on_failure
        self._service: ScoringService | None = None
        self.jobs = JobStore(config.jobs)
        self._starting: asyncio.Task[ScoringModel] | None = None

    @property
    def service(self) -> ScoringService:
        """The scoring service.

        Raises:
            RefusalError: 503 until the self-test has passed.
        """
        if self._service is None:
            raise RefusalError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"model_{self.status}",
                f"no scores yet: the model is {self.status}",
                retry_after_s=2,
            )
        return self._service

    @property
    def model(self) -> ScoringModel | None:
        """The loaded model."""
        return None if self._service is None else self._service.model

    def start(self) -> None:
        """Begin to load in the background: the health answers at once."""
        self._starting = asyncio.create_task(asyncio.to_thread(self._load))
        self._starting.add_done_callback(self._loaded)

    async def stop(self) -> None:
        """Finish what was accepted."""
        self.status = "stopping"
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
        await self.jobs.close()
        if self._service is not None:
            await self._service.close()

    def _loaded(self, task: asyncio.Task[ScoringModel]) -> None:
        if task.cancelled() or self.status == "stopping":
            return
        error = task.exception()
        if error is not None:
            self.status = "failed"
            if self._on_failure is not None:
                self._on_failure(error)
            return
        self._service = ScoringService(task.result(), self.config, self.metrics)
        self.status = "ready"
        self.metrics.ready.set(1)
        logger.info("ready: the self-test has passed")
