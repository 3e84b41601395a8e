"""Jobs in several processes give what they give in one, in their order."""

from __future__ import annotations

import os

from scaling.worker_pool import map_in_order


def _square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def test_results_come_in_the_order_of_the_jobs_and_from_other_processes() -> None:
    alone = list(map_in_order(_square, range(6), 1))
    spread = list(map_in_order(_square, range(6), 2))
    assert [value for value, _ in alone] == [value for value, _ in spread]
    assert {process for _, process in alone} == {os.getpid()}
    assert os.getpid() not in {process for _, process in spread}
