"""Which of a run's measurements is the best one: that of the lowest loss on one set."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from worldpm.run_record import EvalRecord, read_evals


def best_evaluation(records: Iterable[EvalRecord], name: str) -> EvalRecord | None:
    """The record with the lowest Bradley-Terry loss on the set `name`; of equals the first.

    The measurement before the first step is left out: what is kept has been trained. None where
    there is no other.
    """
    trained = [record for record in records if record.step > 0 and name in record.test_sets]
    return min(trained, key=lambda record: record.test_sets[name].bt_loss, default=None)


def is_best_so_far(run_directory: Path, name: str, step: int) -> bool:
    """Whether the measurement after `step` steps is the best of those up to it.

    Reads the run's records alone, so that a resumed run decides as the first attempt did.
    """
    records = [record for record in read_evals(run_directory) if record.step <= step]
    best = best_evaluation(records, name)
    return best is not None and best.step == step
