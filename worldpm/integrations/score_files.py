"""Files of scores from any judge: what `worldpm eval aggregate scores=FILE` reads."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worldpm.artifacts import atomic_file
from worldpm.errors import InputError
from worldpm.group_files import read_group_file
from worldpm.schema import Group


@dataclass(frozen=True, slots=True)
class ScoredCount:
    """How many groups have scores, and how many the judge gave none."""

    num_scored: int
    num_abstained: int


def write_scores(
    score: Callable[[Group], list[float] | None],
    groups_path: Path,
    output: Path,
    *,
    benchmark: str,
) -> ScoredCount:
    """Score every group of a file and write `{"benchmark", "id", "scores"}` lines.

    `score` answers None for a group it does not judge: the group is left out and counted.

    Raises:
        InputError: the judge gave another number of scores than responses, or no finite number.
    """
    num_scored = num_abstained = 0
    with atomic_file(output) as file:
        for group in read_group_file(groups_path):
            scores = score(group)
            if scores is None:
                num_abstained += 1
                continue
            if len(scores) != len(group.responses) or not all(map(math.isfinite, scores)):
                raise InputError(f"group {group.group_id}: {scores} are no scores of its responses")
            line = {"benchmark": benchmark, "id": group.group_id, "scores": scores}
            file.write(json.dumps(line) + "\n")
            num_scored += 1
    return ScoredCount(num_scored, num_abstained)
