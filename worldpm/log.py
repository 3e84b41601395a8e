"""Messages and progress on standard error: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

logger = logging.getLogger("worldpm")

PLAIN_INTERVAL_S = 10.0


class Progress(Protocol):
    """What a long job reports to."""

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""
        ...


def configure_logging(level: int = logging.INFO) -> None:
    """Send the project's messages to standard error, one plain line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


class _PlainProgress:
    """A line now and then, for log files."""

    def __init__(self, description: str, total: int | None) -> None:
        self._description = description
        self._total = total
        self._done = 0
        self._last_line_s = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now_s = time.monotonic()
        if now_s - self._last_line_s >= PLAIN_INTERVAL_S:
            self._last_line_s = now_s
            of_total = f" of {self._total:,}" if self._total else ""
            logger.info("%s: %s%s", self._description, f"{self._done:,}", of_total)


@contextmanager
def progress(description: str, total: int | None = None) -> Generator[Progress]:
    """Report the progress of a job that takes more than a few seconds.

    `total` is the number of units when it is known.
    """
    if not sys.stderr.isatty():
        yield _PlainProgress(description, total)
        return
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    with RichProgress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=total)

        class _Bar:
            def advance(self, amount: int = 1) -> None:
                bars.advance(task, amount)

        yield _Bar()
