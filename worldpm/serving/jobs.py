"""Results that are fetched later: ROLL submits a task and asks for its score again and again."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import dataclass
from http import HTTPStatus

from worldpm.serving.config import JobsConfig
from worldpm.serving.errors import RefusalError


@dataclass(frozen=True, slots=True)
class _Job:
    task: asyncio.Task[float]
    submitted_s: float


class JobStore:
    """A bounded store of tasks that forgets finished ones after a while."""

    def __init__(self, config: JobsConfig) -> None:
        self._config = config
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def submit(self, work: Coroutine[None, None, float]) -> str:
        """Start the work; returns its number.

        Raises:
            RefusalError: 429, too many tasks are kept already.
        """
        now_s = time.monotonic()
        self._forget(now_s)
        if len(self._jobs) >= self._config.max_jobs:
            work.close()
            raise RefusalError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "queue_full",
                f"{len(self._jobs)} tasks are kept already: fetch results or try again later",
                retry_after_s=5,
            )
        number = uuid.uuid4().hex
        self._jobs[number] = _Job(asyncio.create_task(work), now_s)
        return number

    def find(self, number: str) -> asyncio.Task[float]:
        """The task of a number; asking again is allowed.

        Raises:
            RefusalError: 404, there is no such task any more.
        """
        if number not in self._jobs:
            raise RefusalError(
                HTTPStatus.NOT_FOUND,
                "unknown_task",
                "no such task, or its result was kept too long ago",
                param="reward_request_id",
            )
        return self._jobs[number].task

    async def close(self) -> None:
        """Wait for the tasks that run."""
        running = [job.task for job in self._jobs.values() if not job.task.done()]
        if running:
            await asyncio.wait(running)

    def _forget(self, now_s: float) -> None:
        while self._jobs:
            job = next(iter(self._jobs.values()))
            if not job.task.done() or now_s - job.submitted_s < self._config.keep_s:
                return
            self._jobs.popitem(last=False)
            if not job.task.cancelled():
                job.task.exception()  # read, so that asyncio does not report it as never seen
