"""What comes after pre-training: best-of-N picks (Figure 6) and fine-tuning gains (Figure 7).

Both are read from files: `curve.json` of `worldpm best-of-n`, one folder a model, and
`comparison.json` of `worldpm finetune`, one folder a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.collect import LeftOut
from worldpm.artifacts import read_json
from worldpm.errors import ArtifactError, InputError
from worldpm.run_record import RUN_FILE, RunRecord

CURVE_FILE = "curve.json"
COMPARISON_FILE = "comparison.json"


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Picks of one model: candidates n, mean score or gold score and length, with errors."""

    model: str
    n: tuple[int, ...]
    value: tuple[float, ...]
    value_error: tuple[float, ...]
    length: tuple[float, ...]
    length_error: tuple[float, ...]
    is_gold: bool


@dataclass(frozen=True, slots=True)
class FineTuningGain:
    """Accuracy on a test set over the run from other weights, by pre-training pairs."""

    test_set: str
    model: str
    num_pretraining_pairs: int
    gain: float
    interval: tuple[float, float]


def read_best_of_n(directory: Path) -> list[BestOfN]:
    """Every `<model>/curve.json` below a folder, by name.

    Raises:
        InputError: there is none.
    """
    found = [_best_of_n(path) for path in sorted(directory.rglob(CURVE_FILE))]
    if not found:
        raise InputError(f"best_of_n: {directory} holds no {CURVE_FILE} of `worldpm best-of-n`")
    return found


def read_fine_tuning(directory: Path) -> tuple[list[FineTuningGain], list[LeftOut]]:
    """Every run with a comparison below a folder; runs without a baseline are left out.

    Raises:
        InputError: there is no comparison.
    """
    paths = sorted(directory.rglob(COMPARISON_FILE))
    if not paths:
        raise InputError(f"finetuning: {directory} holds no {COMPARISON_FILE}")
    gains: list[FineTuningGain] = []
    left_out: list[LeftOut] = []
    for path in paths:
        try:
            gains += list(_gains(path))
        except ArtifactError as exc:
            left_out.append(LeftOut(path.parent.name, str(exc)))
    return gains, left_out


def _best_of_n(path: Path) -> BestOfN:
    curve = read_json(path)["curve"]
    is_gold = all(point["gold"] is not None for point in curve)
    values = [point["gold"] if is_gold else point["score"] for point in curve]
    return BestOfN(
        model=path.parent.name,
        n=tuple(point["n"] for point in curve),
        value=tuple(value["mean"] for value in values),
        value_error=tuple(value["standard_error"] or 0.0 for value in values),
        length=tuple(point["length"]["mean"] for point in curve),
        length_error=tuple(point["length"]["standard_error"] or 0.0 for point in curve),
        is_gold=is_gold,
    )


def _gains(path: Path) -> Iterator[FineTuningGain]:
    record = RunRecord.read(path.parent)
    source = record.config.get("model", {}).get("init_from")
    if not source:
        raise ArtifactError("its configuration names no checkpoint that it started from")
    # RUN/model is the final checkpoint of the pre-training run RUN.
    pretraining = Path(source).parent
    if not (pretraining / RUN_FILE).is_file():
        raise ArtifactError(f"no run record beside its start {source}: pre-training pairs unknown")
    num_pairs = RunRecord.read(pretraining).num_pairs
    comparison: dict[str, Any] = read_json(path)
    for name, result in comparison.items():
        difference = result.get("over_baseline")
        if difference is None:
            raise ArtifactError("its comparison has no baseline run from the base model")
        low, high = difference["accuracy_interval"]
        yield FineTuningGain(
            name, record.model_name, num_pairs, difference["accuracy"], (low, high)
        )
