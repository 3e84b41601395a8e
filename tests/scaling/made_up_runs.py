"""Run directories with planted laws, written by the record's own classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worldpm.metrics import pair_metrics
from worldpm.run_record import EvalRecord, RunRecord, RunStatus, TestSetResult, eval_path
from worldpm.schema import PAIR_SCORES_SCHEMA

PAIRS_PER_STEP = 64
ENVIRONMENT = {"commit": "0123abc", "python": "3.11"}


def write_run(
    directory: Path,
    *,
    size: int = 0,
    seed: int = 0,
    num_points: int = 9,
    num_items: int = 200,
    test_sets: Sequence[str] = ("adversarial", "objective", "subjective", "in_distribution"),
    status: RunStatus = "completed",
    schedule: str = "constant",
    message: str = "",
) -> Path:
    """One run: `adversarial` and `in_distribution` fall at every size, `objective` from the third
    size on, `subjective` margins grow in scale without a better ranking."""
    rng = np.random.default_rng(1000 * size + seed)
    (directory / "evals").mkdir(parents=True)
    num_params = 10_000 * 3**size
    steps = [0, *(2**point for point in range(num_points))]
    for step in steps:
        num_pairs = step * PAIRS_PER_STEP
        tables, results = [], {}
        for number, kind in enumerate(test_sets):
            margins = _margins(kind, number, rng, size=size, step=step, num_items=num_items)
            ids = [f"{kind}/{item}" for item in range(num_items)]
            tables.append(_scores(kind, ids, margins))
            found = pair_metrics(ids, margins, np.zeros(num_items))
            results[kind] = TestSetResult(
                kind=kind,
                num_items=num_items,
                num_pairs=num_items,
                bt_loss=found.bt_loss,
                bt_loss_standard_error=found.bt_loss_standard_error,
                accuracy=found.accuracy,
                accuracy_standard_error=found.accuracy_standard_error,
                num_ties=found.num_ties,
                length_baseline_accuracy=0.5,
            )
        pq.write_table(pa.concat_tables(tables), eval_path(directory, step, ".parquet"))
        flops = 6.0 * num_params * num_pairs * 100
        EvalRecord(step, num_pairs, num_pairs * 100, flops, results).write(directory)
    _write_metrics(directory, steps[-1], rng)
    RunRecord(
        name=directory.name,
        status=status,
        model_name=f"size-{size}",
        num_params=num_params + 5_000,
        num_params_non_embedding=num_params,
        seed=seed,
        step=steps[-1],
        num_steps=steps[-1],
        num_pairs=steps[-1] * PAIRS_PER_STEP,
        num_tokens=steps[-1] * PAIRS_PER_STEP * 100,
        flops=6.0 * num_params * steps[-1] * PAIRS_PER_STEP * 100,
        pair_chain="0" * 64,
        data_fingerprint="f",
        world_size=1,
        wall_s=10.0,
        config={"schedule": {"kind": schedule}, "seed": seed},
        environment=ENVIRONMENT,
        message=message,
    ).write(directory)
    return directory


def _margins(
    kind: str, number: int, rng: np.random.Generator, *, size: int, step: int, num_items: int
) -> np.ndarray:
    difficulty = np.random.default_rng(number).normal(size=num_items)
    octaves = np.log2(1 + step)
    gain = {
        "adversarial": 0.20 * (0.6 + 0.2 * size),
        "in_distribution": 0.22 * (0.6 + 0.2 * size),
        "objective": 0.20 * (size >= 2),
        "subjective": 0.0,
    }[kind]
    noise = rng.normal(0, 0.1, num_items)
    if kind == "subjective":
        return (0.25 * difficulty + 0.05 + noise) * (1 + 0.5 * octaves)
    return gain * octaves + 0.5 * difficulty + noise


def _scores(kind: str, ids: list[str], margins: np.ndarray) -> pa.Table:
    count = len(ids)
    tokens = np.random.default_rng(9).integers(10, 200, (2, count)).astype(np.int32)
    columns = {
        "test_set": [kind] * count,
        "item_id": ids,
        "chosen": np.zeros(count, np.int32),
        "rejected": np.ones(count, np.int32),
        "chosen_score": margins,
        "rejected_score": np.zeros(count),
        "chosen_tokens": tokens[0],
        "rejected_tokens": tokens[1],
        "weight": np.ones(count),
    }
    return pa.table(columns, schema=PAIR_SCORES_SCHEMA)


def _write_metrics(directory: Path, num_steps: int, rng: np.random.Generator) -> None:
    with (directory / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, num_steps + 1):
            line = {
                "step": step,
                "num_pairs": step * PAIRS_PER_STEP,
                "bt_loss": 0.69 * step**-0.05 + rng.normal(0, 0.01),
                "grad_norm": 1 + rng.random(),
            }
            file.write(json.dumps(line) + "\n")
