"""Keep the preferences that reward models confirm, discard or flip the others.

The filter of Skywork-Reward-V2 (arXiv 2507.01352, its second stage): a pair stays if the model
trained on gold labels prefers the chosen response and so does the best model at hand; what both
reject may come back flipped. The WorldPM paper found that filtering by a reward model pulls the
data towards that model (its Tables 10 to 12), so nothing here happens by default.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_pipeline.score_files import read_scored_groups
from worldpm.artifacts import StageCounts
from worldpm.config import ConfigModel
from worldpm.errors import InputError
from worldpm.group_files import write_group_file
from worldpm.schema import Group, Pair

Verdict = Literal["keep", "flip", "unsure"]


class CurationConfig(ConfigModel):
    """Settings of `worldpm data curate`."""

    groups: Path
    """A file of groups with pairs."""
    scores: dict[str, Path] = Field(min_length=1)
    """Name to score file of `worldpm score`; all models must agree."""
    output: Path
    keep_above: float = Field(default=0.5, ge=0, le=1)
    """Least probability of the pair, by each model's own scores, for it to stay."""
    flip_below: float = Field(default=0.0, ge=0, le=0.5)
    """A pair that every model gives a smaller probability is turned round; 0 flips none."""


@dataclass(slots=True)
class CurationCounts:
    """Pairs in, out and dropped, and how many of those out were flipped."""

    pairs: StageCounts = field(default_factory=StageCounts)
    num_flipped: int = 0


def curate(config: CurationConfig) -> CurationCounts:
    """Write the groups with the pairs that stay, whole or not at all.

    A group without a pair left is not written.

    Raises:
        InputError: groups and scores do not belong together, or no pair stays.
    """
    counts = CurationCounts()
    groups = _curated(config, counts)
    first = next(groups, None)
    if first is None:
        raise InputError(f"{config.groups}: no pair is confirmed; lower keep_above")

    def all_groups() -> Iterator[Group]:
        yield first
        yield from groups

    write_group_file(config.output, all_groups())
    counts.pairs.check("curate")
    return counts


def _curated(config: CurationConfig, counts: CurationCounts) -> Iterator[Group]:
    for group, scores in read_scored_groups(config.groups, config.scores):
        pairs: list[Pair] = []
        for pair in group.pairs:
            counts.pairs.rows_in += 1
            verdict = judge(pair, list(scores.values()), config.keep_above, config.flip_below)
            if verdict == "unsure":
                counts.pairs.drop("not_confirmed")
                continue
            counts.pairs.rows_out += 1
            counts.num_flipped += verdict == "flip"
            pairs.append(pair.swap() if verdict == "flip" else pair)
        if pairs:
            yield replace(group, pairs=tuple(pairs))


def judge(
    pair: Pair, scores: Sequence[Sequence[float]], keep_above: float, flip_below: float
) -> Verdict:
    """What all models together say about a pair; `scores` has a row of responses a model."""
    probabilities = [_sigmoid(row[pair.chosen] - row[pair.rejected]) for row in scores]
    if all(probability > keep_above for probability in probabilities):
        return "keep"
    return "flip" if all(p < flip_below for p in probabilities) else "unsure"


def _sigmoid(difference: float) -> float:
    """Written so that neither end overflows."""
    if difference >= 0:
        return 1 / (1 + math.exp(-difference))
    power = math.exp(difference)
    return power / (1 + power)
