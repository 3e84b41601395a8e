"""Scores of groups as `worldpm score` writes them: one line `{"id", "scores"}` a group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from data_pipeline.sources.preference_sets.rows import Row, read_rows
from worldpm.errors import InputError
from worldpm.group_files import read_group_file
from worldpm.schema import Group


def read_scored_groups(
    groups: Path, score_files: Mapping[str, Path]
) -> Iterator[tuple[Group, dict[str, tuple[float, ...]]]]:
    """Every group with its responses' scores by each model; the files stand in the same order.

    Raises:
        InputError: a score file has another order, fewer or more lines, or other counts of scores.
    """
    readers = {name: read_rows(path) for name, path in score_files.items()}
    for group in read_group_file(groups):
        scores: dict[str, tuple[float, ...]] = {}
        for name, rows in readers.items():
            row = next(rows, None)
            if row is None:
                raise InputError(f"{score_files[name]} ends before group {group.group_id}")
            scores[name] = _scores_of(row, group)
        yield group, scores
    for name, rows in readers.items():
        if next(rows, None) is not None:
            raise InputError(f"{score_files[name]} goes on after the last group of {groups}")


def _scores_of(row: Row, group: Group) -> tuple[float, ...]:
    if str(row.value.get("id")) != group.group_id:
        row.refuse(f"expected the scores of group {group.group_id}, found {row.value.get('id')}")
    values = row.value.get("scores")
    if not isinstance(values, list) or len(values) != len(group.responses):
        row.refuse(f"group {group.group_id} has {len(group.responses)} responses to score")
    if not all(isinstance(value, int | float) and abs(value) < float("inf") for value in values):
        row.refuse("a score is no finite number")
    return tuple(float(value) for value in values)
