"""Work through a list of jobs in several processes, with the results in the order of the jobs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_order(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int
) -> Iterator[Result]:
    """What `function` makes of every job; in this process where one worker is enough."""
    num_workers = min(num_workers, len(jobs))
    if num_workers <= 1:
        yield from map(function, jobs)
        return
    # Not forked: DuckDB and BLAS have threads, whose locks a fork may find taken for ever.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        yield from pool.map(function, jobs)
