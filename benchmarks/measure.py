"""What the benchmarks share: time of a call with its children, tables, and the last line."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of a call: on the wall, and of all cores, child processes included."""

    wall_s: float
    cpu_s: float


def measure(work: Callable[[], Result]) -> tuple[Result, Measured]:
    """Run once and measure."""
    wall, cpu = time.perf_counter(), _cpu_s()
    result = work()
    return result, Measured(time.perf_counter() - wall, _cpu_s() - cpu)


def best_of(repeats: int, work: Callable[[], Result]) -> tuple[Result, Measured]:
    """The run with the least CPU time: on a shared machine the others measure the neighbours."""
    runs = [measure(work) for _ in range(repeats)]
    return min(runs, key=lambda run: run[1].cpu_s)


def peak_rss_mb() -> float:
    """The most memory this process or a child of it ever had."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024


def print_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A Markdown table, as docs/data.md has it."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print(
            "| " + " | ".join(f"{c:,.2f}" if isinstance(c, float) else str(c) for c in row) + " |"
        )
    print(flush=True)


def print_ratios(**ratios: float | int | bool) -> None:
    """The last line: one JSON object."""
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in ratios.items()}))


def _cpu_s() -> float:
    used = [resource.getrusage(k) for k in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
