"""Write the final groups: removals applied, and each question cluster given to one split."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline import (
    apply_removals,
    group_tables,
    keyed_hash,
    pair_drawing,
    removals,
    sql,
    statistics,
)
from data_pipeline.apply_removals import GroupMask
from data_pipeline.config import SplitConfig
from data_pipeline.group_tables import CANDIDATES_SCHEMA
from data_pipeline.keyed_hash import text_key, unit_interval
from data_pipeline.removals import read_clusters, read_removals
from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages.pair import Pair
from data_pipeline.statistics import GroupStatistics
from worldpm.artifacts import StageCounts, write_atomic
from worldpm.schema import Split

FINAL_SCHEMA = CANDIDATES_SCHEMA.append(pa.field("cluster", pa.string()))
"""`groups/*.parquet`; `cluster` is the group_id of the question cluster's representative."""

# A row group is what one task encodes: seconds, so that a small dump keeps several cores busy.
GROUPS_PER_TASK = 2_000


@dataclass(frozen=True)
class CleaningStep:
    """A named step of cleaning and the stages whose removals belong to it."""

    name: str
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class SplitGroups(Stage):
    """One task a bucket; the groups of a file stand in the global order."""

    pair: Pair
    cleaning: tuple[CleaningStep, ...]
    clustering: tuple[Stage, ...]
    config: SplitConfig
    seed: int

    @property
    def name(self) -> str:
        return "split"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (
            *(apply_removals, group_tables, keyed_hash, pair_drawing),
            *(removals, sql, statistics),
        )

    def settings(self) -> Mapping[str, Any]:
        return {
            **self.config.model_dump(mode="json"),
            "seed": self.seed,
            "cleaning": [step.name for step in self.cleaning],
        }

    def upstream(self) -> tuple[Stage, ...]:
        cleaning = [stage for step in self.cleaning for stage in step.stages]
        return (self.pair, *cleaning, *self.clustering)

    def tasks(self) -> list[str]:
        return self.pair.tasks()

    def run_task(self, task: str, directory: Path) -> TaskResult:
        groups = pq.read_table(self.pair.directory / f"{task}.parquet")
        mask = GroupMask(groups, self.pair.pairing)
        counts = {
            step.name: mask.remove(read_removals(stage.directory for stage in step.stages))
            for step in self.cleaning
        }
        clusters = read_clusters(stage.directory for stage in self.clustering)
        final = assign_splits(mask.kept(), clusters, self.config, self.seed)
        write_atomic(
            directory / f"{task}.parquet",
            lambda path: pq.write_table(
                final, path, compression="zstd", row_group_size=GROUPS_PER_TASK
            ),
        )
        posts = mask.num_posts()
        notes = [{"statistics": GroupStatistics.of(final).to_json()}]
        return TaskResult({**counts, "split": StageCounts(posts, posts)}, notes)


def assign_splits(groups: pa.Table, clusters: pa.Table, config: SplitConfig, seed: int) -> pa.Table:
    """Fill the columns `split` and `cluster`; a cluster is drawn as a whole.

    A cluster with a question of a held-out site belongs to `test` as a whole.
    """
    held_out_sites = set(config.held_out_sites)
    sites_held_out = pa.array(config.held_out_sites, pa.string())
    with_held_out = clusters.filter(pc.is_in(clusters["site"], sites_held_out))
    held_out = set(with_held_out["cluster"].to_pylist())
    # A bucket has few of all questions: the rest need not become Python objects.
    clusters = clusters.filter(pc.is_in(clusters["question_id"], groups["question_id"]))
    places = zip(clusters["site"].to_pylist(), clusters["question_id"].to_pylist(), strict=True)
    cluster_of = dict(zip(places, clusters["cluster"].to_pylist(), strict=True))
    sites, questions = groups["site"].to_pylist(), groups["question_id"].to_pylist()
    own = groups["group_id"].to_pylist()
    names = [
        cluster_of.get(place, group_id)
        for place, group_id in zip(zip(sites, questions, strict=True), own, strict=True)
    ]
    splits = [
        "test" if site in held_out_sites or name in held_out else _draw(name, config, seed)
        for site, name in zip(sites, names, strict=True)
    ]
    place = groups.schema.get_field_index("split")
    return (
        groups.set_column(place, "split", pa.array(splits, pa.string()))
        .append_column("cluster", pa.array(names, pa.string()))
        .cast(FINAL_SCHEMA)
    )


def _draw(cluster: str, config: SplitConfig, seed: int) -> Split:
    draw = unit_interval(text_key("split", seed, cluster))
    if draw < config.test:
        return "test"
    return "validation" if draw < config.test + config.validation else "train"
