"""A preference set as the groups that the data build's stages encode and shard."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import keyed_hash
from data_pipeline.keyed_hash import buckets_of, text_key, unit_interval
from data_pipeline.sources import preference_sets
from data_pipeline.sources.preference_sets import Dropped, ImportSource, read_preference_set
from data_pipeline.stage import Stage, TaskResult
from worldpm.artifacts import StageCounts, file_sha256, write_atomic
from worldpm.errors import InputError
from worldpm.group_files import read_group_file
from worldpm.schema import GROUPS_SCHEMA, Group, Message
from worldpm.training.finetuning.config import PreferencesConfig

GROUPS_PER_ROW_GROUP = 1_000


@dataclass(frozen=True)
class PreferenceGroups(Stage):
    """One task a bucket of the global order; writes `<task>.parquet` (`GROUPS_SCHEMA`).

    `test_sets` are group files whose prompts may not be trained on.
    """

    config: PreferencesConfig
    test_sets: tuple[Path, ...]

    @property
    def name(self) -> str:
        return "groups"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        package = preference_sets.__name__ + "."
        readers = [module for name, module in sys.modules.items() if name.startswith(package)]
        return (keyed_hash, *sorted(readers, key=lambda module: module.__name__))

    def settings(self) -> Mapping[str, Any]:
        config = self.config.model_dump(mode="json", exclude={"template", "max_tokens"})
        config["source"].pop("path")
        return {
            **config,
            "files": [file_sha256(path) for path in _files(self.config.source.path)],
            "test_sets": [file_sha256(path) for path in self.test_sets],
        }

    def upstream(self) -> tuple[Stage, ...]:
        return ()

    def tasks(self) -> list[str]:
        return [f"bucket-{number:05d}" for number in range(self.config.buckets)]

    def run_task(self, task: str, directory: Path) -> TaskResult:
        bucket = self.tasks().index(task)
        held_out = _prompts_of(self.test_sets)
        counts = StageCounts()
        rows: list[tuple[int, dict[str, Any]]] = []
        for number, item in enumerate(read_preference_set(self.config.source, self.config.seed)):
            key = text_key("order", self.config.seed, number)
            if buckets_of(np.array([key], np.uint64), self.config.buckets)[0] != bucket:
                continue
            counts.rows_in += 1
            if isinstance(item, Dropped):
                counts.drop(item.reason)
                continue
            split = choose_split(item, self.config, held_out, counts)
            if split is not None:
                rows.append((key, _to_row(item, number, split, self.config.source)))
        counts.rows_out = len(rows)
        ordered = [row for _, row in sorted(rows, key=lambda item: item[0])]
        table = pa.Table.from_pylist(ordered, schema=GROUPS_SCHEMA)
        write_atomic(
            directory / f"{task}.parquet",
            lambda path: pq.write_table(
                table, path, compression="zstd", row_group_size=GROUPS_PER_ROW_GROUP
            ),
        )
        return TaskResult({"groups": counts})


def choose_split(
    group: Group, config: PreferencesConfig, held_out: frozenset[str], counts: StageCounts
) -> str | None:
    """`train` or `validation` by the prompt alone; None with a counted reason if it is left out."""
    prompt = normalise_prompt(group.prompt)
    if prompt in held_out:
        counts.drop("prompt_in_a_test_set")
        return None
    if not group.pairs:
        counts.drop("no_preference")
        return None
    if unit_interval(text_key("validation", config.seed, prompt)) < config.validation:
        return "validation"
    if unit_interval(text_key("fraction", config.seed, prompt)) >= config.fraction:
        counts.drop("not_in_the_fraction")
        return None
    return "train"


def normalise_prompt(prompt: Iterable[Message]) -> str:
    """A conversation without differences of case and white space."""
    return "\n".join(f"{turn.role}: {' '.join(turn.content.split()).lower()}" for turn in prompt)


def _prompts_of(paths: Iterable[Path]) -> frozenset[str]:
    return frozenset(_prompts(paths))


def _prompts(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        for group in read_group_file(path):
            yield normalise_prompt(group.prompt)


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise InputError(f"preferences.source.path: there is no {path}")
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _to_row(group: Group, number: int, split: str, source: ImportSource) -> dict[str, Any]:
    response = {"score": 0, "net_votes": 0, "is_accepted": False, "licence": source.licence}
    return {
        "group_id": group.group_id,
        "site": source.name,
        "question_id": number,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in group.prompt],
        "responses": [
            {**response, "response_id": index, "content": text}
            for index, text in enumerate(group.responses)
        ],
        "pairs": [
            {
                "chosen": pair.chosen,
                "rejected": pair.rejected,
                "margin": pair.margin,
                "weight": pair.weight,
            }
            for pair in group.pairs
        ],
        "split": split,
    }
