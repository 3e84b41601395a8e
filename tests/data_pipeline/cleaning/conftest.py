"""Run cleaning stages on given groups, without the stages before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.stage import Stage, TaskResult, missing_tasks, prepare, publish, run_and_mark
from worldpm.schema import GROUPS_SCHEMA

GroupRow = dict[str, Any]


@dataclass(frozen=True)
class GivenGroups(Stage):
    """Stands where the pair stage stands: files of groups, one a bucket."""

    buckets: tuple[pa.Table, ...]

    @property
    def name(self) -> str:
        return "given"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return ()

    def settings(self) -> Mapping[str, Any]:
        return {"rows": [table.to_pylist() for table in self.buckets]}

    def upstream(self) -> tuple[Stage, ...]:
        return ()

    def tasks(self) -> list[str]:
        return [f"bucket-{number:05d}" for number in range(len(self.buckets))]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        pq.write_table(self.buckets[int(task[-5:])], directory / f"{task}.parquet")
        return TaskResult({})


@pytest.fixture
def group_row() -> Callable[..., GroupRow]:
    """Make a row of groups: `group_row("site", 1, "question", ["answer", "answer"])`."""

    def make(
        site: str,
        question_id: int,
        question: str,
        answers: list[str],
        scores: list[int] | None = None,
    ) -> GroupRow:
        return {
            "group_id": f"{site}/{question_id}",
            "site": site,
            "question_id": question_id,
            "prompt": [{"role": "user", "content": question}],
            "responses": [
                {"response_id": 1000 * question_id + place, "content": text, "score": score}
                for place, (text, score) in enumerate(
                    zip(answers, scores or range(len(answers)), strict=True)
                )
            ],
            "pairs": [],
            "split": None,
        }

    return make


@pytest.fixture
def given_groups(tmp_path: Path) -> Callable[[list[list[GroupRow]]], GivenGroups]:
    """A finished stage that holds these groups, a list a bucket."""

    def make(buckets: list[list[GroupRow]]) -> GivenGroups:
        tables = tuple(pa.Table.from_pylist(rows, schema=GROUPS_SCHEMA) for rows in buckets)
        stage = GivenGroups(tmp_path / "given", tables)
        _run(stage)
        return stage

    return make


@pytest.fixture
def run_stages() -> Callable[..., None]:
    """Run stages one after the other, their tasks in the given or the reverse order."""

    def run(*stages: Stage, backwards: bool = False) -> None:
        for stage in stages:
            _run(stage, backwards=backwards)

    return run


def _run(stage: Stage, *, backwards: bool = False) -> None:
    prepare(stage)
    tasks = missing_tasks(stage)
    for task in reversed(tasks) if backwards else tasks:
        run_and_mark(stage, task)
    publish(stage)
