"""Speed of the scaling fits: the Chinchilla fit with its bootstrap, and a whole report.

`python benchmarks/fitting.py` compares with the method of Besiroglu et al.'s notebook in the same
process: a grid of 4,500 starts with L-BFGS-B at scipy's defaults and numerical gradients, then one
BFGS for each resample from Hoffmann et al.'s constants. `--starts` and `--notebook-resamples` take
a part of it, whose time is scaled up to the whole; all of it takes minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.optimize import minimize

from scaling.config import BootstrapConfig, ReportConfig
from scaling.joint_law import JointPoints, bootstrap_joint, fit_joint
from scaling.report import run_report
from worldpm.run_record import EvalRecord, RunRecord, TestSetResult, eval_path
from worldpm.schema import PAIR_SCORES_SCHEMA

DELTA = 1e-3
NUM_RESAMPLES = 1000
DATA = Path(__file__).parents[2] / "shared" / "data" / "chinchilla" / "svg_extracted_data.csv"
HOFFMANN = [6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083]
GRID = (
    np.arange(0, 30, 5),
    np.arange(0, 30, 5),
    np.arange(-1, 1.5, 0.5),
    np.arange(0, 2.5, 0.5),
    np.arange(0, 2.5, 0.5),
)


def main() -> None:
    """Time both methods and the report; print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--starts", type=int, default=4500, help="of the notebook's 4,500")
    parser.add_argument("--notebook-resamples", type=int, default=NUM_RESAMPLES)
    parser.add_argument("--skip-report", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    if options.data.is_file():
        results |= _compare_fits(_read(options.data), options.starts, options.notebook_resamples)
    else:
        print(f"no {options.data}: the comparison of fits is skipped")
    if not options.skip_report:
        results |= _time_report()
    print(json.dumps(results))


def _compare_fits(points: JointPoints, num_starts: int, num_resamples: int) -> dict[str, Any]:
    ours, our_s, our_cpu_s = _timed(lambda: _ours(points))
    grid, grid_s, grid_cpu_s = _timed(lambda: _notebook_fit(points, num_starts))
    boot, boot_s, boot_cpu_s = _timed(lambda: _notebook_bootstrap(points, num_resamples))
    whole_s = grid_s * 4500 / num_starts + boot_s * NUM_RESAMPLES / num_resamples
    whole_cpu_s = grid_cpu_s * 4500 / num_starts + boot_cpu_s * NUM_RESAMPLES / num_resamples
    fit, resampled = ours
    row = "{:34} {:>10} {:>10} {:>12}".format
    print(row("Chinchilla, 240 points", "wall s", "CPU s", "objective"))
    print(row("ours: 72 starts, 1,000 resamples", f"{our_s:.2f}", f"{our_cpu_s:.2f}",
              f"{fit.objective:.8f}"))  # fmt: skip
    print(row(f"notebook: grid, {num_starts} starts", f"{grid_s:.1f}", f"{grid_cpu_s:.1f}",
              f"{grid:.8f}"))  # fmt: skip
    print(row(f"notebook: {num_resamples} resamples", f"{boot_s:.1f}", f"{boot_cpu_s:.1f}", ""))
    ratio = whole_s / our_s
    print(f"ratio (notebook scaled to 4,500 starts and 1,000 resamples): {ratio:.0f} x")
    bounds = {
        name: [float(bound) for bound in np.percentile(column, [2.5, 97.5])]
        for name, column in (("alpha", resampled[:, 3]), ("beta", resampled[:, 4]))
    }
    notebook_bounds = {
        name: [float(bound) for bound in np.percentile(boot[:, column], [2.5, 97.5])]
        for name, column in (("alpha", 3), ("beta", 4))
    }
    print(f"95 % bounds, ours {bounds}, notebook {notebook_bounds}")
    return {
        "fit_s": our_s,
        "fit_cpu_s": our_cpu_s,
        "notebook_s": whole_s,
        "notebook_cpu_s": whole_cpu_s,
        "fit_ratio": ratio,
        "fit_cpu_ratio": whole_cpu_s / our_cpu_s,
        "objective": fit.objective,
        "notebook_objective": grid,
    }


def _ours(points: JointPoints) -> tuple[Any, np.ndarray]:
    fit = fit_joint(points, delta=DELTA)
    resampled = bootstrap_joint(fit, points, delta=DELTA, num_resamples=NUM_RESAMPLES, seed=0)
    return fit, resampled


def _notebook_objective(theta: np.ndarray, points: JointPoints, rows: np.ndarray) -> float:
    a, b, e, alpha, beta = theta
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        predicted = np.log(
            np.exp(a - alpha * np.log(points.num_params[rows]))
            + np.exp(b - beta * np.log(points.num_samples[rows]))
            + np.exp(e)
        )
    size = np.abs(np.log(points.loss[rows]) - predicted)
    return float(np.where(size <= DELTA, 0.5 * size**2, DELTA * (size - 0.5 * DELTA)).sum())


def _notebook_fit(points: JointPoints, num_starts: int) -> float:
    starts = [np.array(start, float) for start in product(*GRID)]
    rows = np.arange(len(points.loss))
    chosen = np.linspace(0, len(starts) - 1, num_starts).astype(int)
    return min(
        minimize(_notebook_objective, starts[index], args=(points, rows), method="L-BFGS-B").fun
        for index in chosen
    )


def _notebook_bootstrap(points: JointPoints, num_resamples: int) -> np.ndarray:
    rng = np.random.default_rng(42)
    count = len(points.loss)
    return np.array(
        [
            minimize(
                _notebook_objective,
                HOFFMANN,
                args=(points, rng.integers(count, size=count)),
                method="BFGS",
            ).x
            for _ in range(num_resamples)
        ]
    )


def _read(path: Path) -> JointPoints:
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    num_params = np.array([float(row["Model Size"]) for row in rows])
    flops = np.array([float(row["Training FLOP"]) for row in rows])
    loss = np.array([float(row["loss"]) for row in rows])
    kept = loss < np.sort(loss)[-5]
    return JointPoints(num_params[kept], (flops / (6 * num_params))[kept], loss[kept])


def _time_report(
    num_runs: int = 8, num_sets: int = 12, num_points: int = 10, num_items: int = 2000
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for size in range(num_runs):
            _write_run(root / "runs" / f"size-{size}", size, num_sets, num_points, num_items)
        config = ReportConfig(
            runs=root / "runs", output_dir=root / "report", bootstrap=BootstrapConfig()
        )
        _, wall_s, cpu_s = _timed(lambda: run_report(config, Path("configs/scaling/report.yaml")))
    print(
        f"report over {num_runs} runs × {num_sets} sets × {num_points} checkpoints × {num_items} "
        f"items, 1,000 resamples: {wall_s:.1f} s wall, {cpu_s:.1f} s CPU"
    )
    return {"report_s": wall_s, "report_cpu_s": cpu_s}


def _write_run(run: Path, size: int, num_sets: int, num_points: int, num_items: int) -> None:
    (run / "evals").mkdir(parents=True)
    rng = np.random.default_rng(size)
    steps = [2**point for point in range(num_points)]
    kinds = ("adversarial", "objective", "subjective")
    for step in steps:
        tables, results = [], {}
        for index in range(num_sets):
            name, kind = f"set-{index}", kinds[index % 3]
            gain = (0.2, 0.2 * (size > 3), 0.02)[index % 3] * np.log2(1 + step)
            fixed = np.random.default_rng(index).normal(size=num_items)
            margin = gain + 0.5 * fixed + rng.normal(0, 0.1, num_items)
            tables.append(_scores(name, margin, rng))
            results[name] = TestSetResult(kind, num_items, num_items, 0.6, 0.01, 0.6, 0.01, 0, 0.5)
        pq.write_table(pa.concat_tables(tables), eval_path(run, step, ".parquet"))
        EvalRecord(step, step * 64, step * 6400, 1e9 * 3.0**size * step, results).write(run)
    num_params = 10_000 * 3**size
    RunRecord(
        run.name, "completed", run.name, num_params + 1000, num_params, 0, steps[-1], steps[-1],
        steps[-1] * 64, steps[-1] * 6400, 1e9 * 3.0**size * steps[-1], "", "", 1, 1.0, {}, {},
    ).write(run)  # fmt: skip


def _scores(name: str, margin: np.ndarray, rng: np.random.Generator) -> pa.Table:
    count = len(margin)
    tokens = rng.integers(10, 300, (2, count)).astype(np.int32)
    return pa.table(
        {
            "test_set": [name] * count,
            "item_id": [f"{name}/{item}" for item in range(count)],
            "chosen": np.zeros(count, np.int32),
            "rejected": np.ones(count, np.int32),
            "chosen_score": margin,
            "rejected_score": np.zeros(count),
            "chosen_tokens": tokens[0],
            "rejected_tokens": tokens[1],
            "weight": np.ones(count),
        },
        schema=PAIR_SCORES_SCHEMA,
    )


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    started = time.perf_counter(), _cpu_s()
    value = work()
    return value, time.perf_counter() - started[0], _cpu_s() - started[1]


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
