"""Ways in which a run ends early, each with its exit code."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from types import FrameType

EXIT_INTERRUPTED = 75
"""SIGTERM or SIGUSR1 came: a checkpoint was saved; run the same command again (EX_TEMPFAIL)."""
EXIT_HUNG = 76
"""No step within the watchdog's time: a rank hangs."""
EXIT_DIVERGED = 77
"""The loss or the gradient is not a number; a dump for `--replay` was written."""


class StopRequest:
    """Turns SIGTERM and SIGUSR1 into a request that the training loop sees after the step."""

    def __init__(self) -> None:
        self.is_set = False
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._request)
            signal.signal(signal.SIGUSR1, self._request)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.is_set = True


class Watchdog:
    """Ends the process when `beat` was not called for `limit_s` seconds.

    A hung collective cannot be interrupted from Python: the stacks of all threads are printed and
    the process leaves, so that the launcher ends the other ranks.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last_beat_s = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """Say that the run is alive."""
        self._last_beat_s = time.monotonic()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._limit_s / 4)):
            silent_s = time.monotonic() - self._last_beat_s
            if silent_s > self._limit_s:
                print(
                    f"error: no progress for {silent_s:.0f} s (monitor.watchdog_s): a rank hangs",
                    file=sys.stderr,
                    flush=True,
                )
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                os._exit(EXIT_HUNG)
