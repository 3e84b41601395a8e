"""Pick the groups that a model is least sure of, as tasks for Label Studio."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from data_pipeline.score_files import read_scored_groups
from worldpm.artifacts import atomic_file
from worldpm.config import ConfigModel
from worldpm.errors import InputError
from worldpm.schema import Group


class AnnotationConfig(ConfigModel):
    """Settings of `worldpm data annotate`."""

    groups: Path
    scores: Path
    """What `worldpm score` wrote for these groups."""
    output: Path
    """A JSON list of tasks that Label Studio imports."""
    num_groups: int = Field(default=100, ge=1, le=1_000_000)


def write_annotation_tasks(config: AnnotationConfig) -> int:
    """Write the groups whose two best scores lie closest, the closest first; returns how many.

    Each task is one comparison of these two responses, with the keys that `worldpm data import`
    reads back: `prompt`, `response_1`, `response_2`.

    Raises:
        InputError: groups and scores do not belong together, or no group has two responses.
    """
    closest = heapq.nsmallest(config.num_groups, _tasks(config), key=lambda task: task[:2])
    if not closest:
        raise InputError(f"{config.groups}: no group has two responses to compare")
    with atomic_file(config.output) as file:
        json.dump([task for _, _, task in closest], file, ensure_ascii=False, indent=1)
    return len(closest)


def _tasks(config: AnnotationConfig) -> Iterator[tuple[float, int, dict[str, Any]]]:
    scored = read_scored_groups(config.groups, {"model": config.scores})
    for number, (group, scores) in enumerate(scored):
        values = scores["model"]
        if len(values) < 2:
            continue
        best, second = sorted(range(len(values)), key=lambda place: -values[place])[:2]
        gap = values[best] - values[second]
        yield gap, number, _task(group, min(best, second), max(best, second), gap)


def _task(group: Group, first: int, second: int, gap: float) -> dict[str, Any]:
    # The order of the file, not of the scores: a model's favourite must not always stand left.
    return {
        "data": {
            "group_id": group.group_id,
            "prompt": [{"role": turn.role, "content": turn.content} for turn in group.prompt],
            "response_1": group.responses[first],
            "response_2": group.responses[second],
            "score_gap": gap,
        }
    }
