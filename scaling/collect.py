"""Gather run directories into one table a test set: margins of every pair at every evaluation.

Only files are read: run records, evaluation records and their per-pair scores. Whatever is not
used, a run, an evaluation or a pair, is listed with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from scaling.robust_fit import Array
from worldpm.errors import ArtifactError, InputError
from worldpm.run_record import RUN_FILE, EvalRecord, RunRecord, eval_path, read_evals

MAX_RUNS = 10_000
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that no fit uses, and why."""

    run: str
    reason: str
    test_set: str = ""
    step: int | None = None
    amount: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory with its records."""

    directory: Path
    record: RunRecord
    evals: tuple[EvalRecord, ...]

    @property
    def size(self) -> str:
        """The name under which runs of equal size are brought together.

        A run whose learning rate decays is another recipe than one that holds it: its own curve.
        """
        return self.record.model_name + (" (decayed)" if self.decays else "")

    @property
    def decays(self) -> bool:
        """Whether the learning rate falls at the end: then only the last evaluation is a point."""
        schedule = self.record.config.get("schedule", {})
        return schedule.get("kind", "constant") != "constant"


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of one run."""

    run: str
    size: str
    num_params: int
    num_params_non_embedding: int
    seed: int
    step: int
    num_pairs: int
    num_tokens: int
    flops: float


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """The margins of one test set: pairs Q that every one of its P evaluations scored.

    `item_Q` numbers the items 0…I−1; `margin_PQ` is chosen − rejected score.
    """

    test_set: str
    kind: str
    points: tuple[Point, ...]
    item_ids: tuple[str, ...]
    item_Q: Integers
    chosen_Q: Integers
    rejected_Q: Integers
    chosen_tokens_Q: Array
    rejected_tokens_Q: Array
    weight_Q: Array
    margin_PQ: Array


def find_runs(directory: Path) -> tuple[list[Run], list[LeftOut]]:
    """Every directory at or below `directory` that holds a run record.

    Raises:
        InputError: there is no such directory, or no run in it.
    """
    if not directory.is_dir():
        raise InputError(f"there is no directory of runs {directory}")
    records = sorted(directory.rglob(RUN_FILE))
    if not records:
        raise InputError(f"{directory} holds no run: no {RUN_FILE} below it")
    if len(records) > MAX_RUNS:
        raise InputError(f"{directory} holds {len(records):,} runs; more than {MAX_RUNS:,}")
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    for path in records:
        name = path.parent.relative_to(directory).as_posix()
        try:
            runs.append(
                Run(path.parent, RunRecord.read(path.parent), tuple(read_evals(path.parent)))
            )
        except ArtifactError as exc:
            left_out.append(LeftOut(name, str(exc)))
    return runs, left_out


def choose_runs(runs: Sequence[Run]) -> tuple[list[Run], list[LeftOut]]:
    """One run for each size and seed: of two, the one that went further.

    Runs with a decaying rate are told apart by their length too: each is one end-of-training point.
    """
    chosen: dict[tuple[str, int, int], Run] = {}
    left_out: list[LeftOut] = []
    for run in sorted(runs, key=lambda run: (-run.record.num_pairs, run.record.name)):
        key = run.size, run.record.seed, run.record.num_pairs if run.decays else 0
        if run.record.status == "failed":
            reason = f"failed at step {run.record.step}: {run.record.message or 'no message'}"
            left_out.append(LeftOut(run.record.name, reason))
        elif not run.evals:
            reason = f"no evaluation yet (status {run.record.status})"
            left_out.append(LeftOut(run.record.name, reason))
        elif key in chosen:
            other = chosen[key].record.name
            reason = f"same size and seed as {other}, which went further"
            left_out.append(LeftOut(run.record.name, reason))
        else:
            chosen[key] = run
    ordered = sorted(chosen.values(), key=lambda run: (run.record.num_params, run.record.seed))
    return ordered, left_out


def usable_points(
    runs: Sequence[Run], *, min_pairs: int
) -> tuple[dict[Point, Path], dict[str, str], list[LeftOut]]:
    """The evaluations to use with their score files, the kind of every test set, the rest."""
    points: dict[Point, Path] = {}
    kinds: dict[str, str] = {}
    left_out: list[LeftOut] = []
    for run in runs:
        for evaluation in run.evals:
            kinds |= {name: result.kind for name, result in evaluation.test_sets.items()}
            reason = _why_unused(run, evaluation, min_pairs)
            if reason:
                left_out.append(LeftOut(run.record.name, reason, step=evaluation.step))
            else:
                path = eval_path(run.directory, evaluation.step, ".parquet")
                points[_point(run, evaluation)] = path
    return points, kinds, left_out


def read_score_tables(
    points: dict[Point, Path], kinds: dict[str, str]
) -> tuple[list[ScoreTable], list[LeftOut]]:
    """Bring the scores of all evaluations together, one table a test set.

    A pair that one evaluation lacks, holds twice, or scores without a finite number is used by
    none of them: curves over different items would not be comparable.
    """
    ordered = sorted(points, key=lambda p: (p.num_params, p.size, p.seed, p.num_pairs))
    with duckdb.connect() as connection:
        _load_scores(connection, [points[point] for point in ordered])
        tables: list[ScoreTable] = []
        left_out: list[LeftOut] = []
        for name, kind in sorted(kinds.items()):
            table, dropped = _read_table(connection, name, kind, ordered)
            left_out += dropped
            if table is not None:
                tables.append(table)
    return tables, left_out


def _why_unused(run: Run, evaluation: EvalRecord, min_pairs: int) -> str:
    if evaluation.num_pairs <= 0:
        return "before the first training pair: ln D is not defined"
    if evaluation.num_pairs < min_pairs:
        return f"{evaluation.num_pairs} pairs seen, below min_pairs = {min_pairs}"
    if run.decays and (evaluation is not run.evals[-1] or run.record.status != "completed"):
        return "not the end of a run whose learning rate decays"
    if not eval_path(run.directory, evaluation.step, ".parquet").is_file():
        return "the scores of its pairs are missing"
    return ""


def _point(run: Run, evaluation: EvalRecord) -> Point:
    record = run.record
    return Point(
        run=record.name,
        size=run.size,
        num_params=record.num_params,
        num_params_non_embedding=record.num_params_non_embedding,
        seed=record.seed,
        step=evaluation.step,
        num_pairs=evaluation.num_pairs,
        num_tokens=evaluation.num_tokens,
        flops=evaluation.flops,
    )


def _load_scores(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> None:
    connection.execute("CREATE TABLE files (point INTEGER, filename VARCHAR)")
    connection.executemany(
        "INSERT INTO files VALUES (?, ?)", [[i, str(path)] for i, path in enumerate(paths)]
    )
    connection.execute(
        """
        CREATE TABLE scores AS
        SELECT point, test_set, item_id, chosen, rejected, weight,
               chosen_score - rejected_score AS margin, chosen_tokens, rejected_tokens
        FROM read_parquet(?, filename = true) JOIN files USING (filename)
        """,
        [[str(path) for path in paths]],
    )


_TABLE_QUERY = """
WITH one_set AS (
    SELECT *,
           count(*) OVER pair AS num_rows,
           count(DISTINCT point) OVER pair AS num_points,
           bool_and(isfinite(margin)) OVER pair AS finite
    FROM scores WHERE test_set = $name
    WINDOW pair AS (PARTITION BY item_id, chosen, rejected)
)
SELECT dense_rank() OVER (ORDER BY item_id) - 1 AS item, item_id, point, chosen, rejected,
       chosen_tokens, rejected_tokens, weight, margin
FROM one_set
WHERE finite AND num_rows = $expected AND num_points = $expected
ORDER BY item_id, chosen, rejected, point
"""


def _read_table(
    connection: duckdb.DuckDBPyConnection, name: str, kind: str, ordered: Sequence[Point]
) -> tuple[ScoreTable | None, list[LeftOut]]:
    present = connection.execute(
        "SELECT DISTINCT point FROM scores WHERE test_set = ? ORDER BY point", [name]
    ).fetchall()
    used = [ordered[row[0]] for row in present]
    left_out = [
        LeftOut(point.run, "no scores of this test set", test_set=name, step=point.step)
        for point in ordered
        if point not in set(used)
    ]
    columns = connection.execute(_TABLE_QUERY, {"name": name, "expected": len(used)}).fetchnumpy()
    num_all = _count_pairs(connection, name)
    num_kept = len(columns["item"]) // max(len(used), 1)
    if num_all > num_kept:
        reason = "a pair that not every evaluation scored exactly once with a finite number"
        left_out.append(LeftOut("", reason, test_set=name, amount=num_all - num_kept))
    if num_kept < 2:
        left_out.append(LeftOut("", "fewer than two pairs are left", test_set=name))
        return None, left_out
    return _assemble(name, kind, used, columns), left_out


def _count_pairs(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    row = connection.execute(
        "SELECT count(DISTINCT (item_id, chosen, rejected)) FROM scores WHERE test_set = ?", [name]
    ).fetchone()
    assert row is not None
    return int(row[0])


def _assemble(name: str, kind: str, points: Sequence[Point], columns: dict[str, Any]) -> ScoreTable:
    num_points = len(points)
    first = slice(None, None, num_points)  # rows of one pair stand together, a row a point
    item_Q = np.asarray(columns["item"][first], np.int64)
    starts = np.flatnonzero(np.diff(item_Q, prepend=-1))
    return ScoreTable(
        test_set=name,
        kind=kind,
        points=tuple(points),
        item_ids=tuple(str(item) for item in columns["item_id"][first][starts]),
        item_Q=item_Q,
        chosen_Q=np.asarray(columns["chosen"][first], np.int64),
        rejected_Q=np.asarray(columns["rejected"][first], np.int64),
        chosen_tokens_Q=np.asarray(columns["chosen_tokens"][first], np.float64),
        rejected_tokens_Q=np.asarray(columns["rejected_tokens"][first], np.float64),
        weight_Q=np.asarray(columns["weight"][first], np.float64),
        margin_PQ=np.asarray(columns["margin"], np.float64).reshape(-1, num_points).T.copy(),
    )


def summarise_left_out(left_out: Iterable[LeftOut]) -> dict[str, int]:
    """How often each reason occurs."""
    counts: dict[str, int] = {}
    for entry in left_out:
        counts[entry.reason] = counts.get(entry.reason, 0) + entry.amount
    return counts
