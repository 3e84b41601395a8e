"""Cut the global order into shards of equal size, with an index for seeking by pairs or tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.stage import Stage, TaskResult
from data_pipeline.stages import tokenise
from data_pipeline.stages.tokenise import Tokenise, write_shard
from worldpm.artifacts import Manifest, describe_files, write_atomic
from worldpm.chat_template import Encoder
from worldpm.schema import SHARD_INDEX_SCHEMA, SPLITS


@dataclass(frozen=True)
class Shard(Stage):
    """One task a shard: `<split>/shard-NNNNN.arrow`; then an index and a manifest a split."""

    tokenise: Tokenise
    groups_per_shard: int

    @property
    def name(self) -> str:
        return "shard"

    @property
    def modules(self) -> tuple[ModuleType, ...]:
        return (tokenise,)

    def settings(self) -> Mapping[str, Any]:
        return {"groups_per_shard": self.groups_per_shard}

    def upstream(self) -> tuple[Stage, ...]:
        return (self.tokenise,)

    def tasks(self) -> list[str]:
        return [
            f"{split}.{number:05d}"
            for split in SPLITS
            for number in range(-(-sum(self._part_rows(split).values()) // self.groups_per_shard))
        ]

    def _part_rows(self, split: str) -> dict[str, int]:
        notes = Manifest.read(self.tokenise.directory).counts["notes"]
        rows = {name: num for note in notes for name, num in note["num_rows"].items()}
        return {name: rows[name] for name in sorted(rows) if name.startswith(f"{split}-")}

    def run_task(self, task: str, directory: Path) -> TaskResult:
        split, number = task.split(".")
        start = int(number) * self.groups_per_shard
        table = self._slice(split, start, start + self.groups_per_shard)
        (directory / split).mkdir(exist_ok=True)
        write_shard(directory / split / f"shard-{number}.arrow", table)
        return TaskResult({})

    def _slice(self, split: str, start: int, end: int) -> pa.Table:
        slices: list[pa.Table] = []
        offset = 0
        for name, num_rows in self._part_rows(split).items():
            low, high = max(start - offset, 0), min(end - offset, num_rows)
            if low < high:
                table = read_shard(self.tokenise.directory / f"{name}.arrow")
                slices.append(table.slice(low, high - low))
            offset += num_rows
        # One chunk, so that batches have the same borders however the buckets fell.
        return pa.concat_tables(slices).combine_chunks()

    def finish(self, directory: Path, results: Mapping[str, TaskResult]) -> Mapping[str, Any]:
        del results
        encoder = Encoder.from_folder(self.tokenise.tokenizer.directory)
        config = {
            "tokenizer_hash": encoder.hash,
            "template_hash": encoder.template.hash,
            "max_tokens": self.tokenise.max_tokens,
        }
        counts = {split: self._finish_split(directory / split, config) for split in SPLITS}
        return {"config": config, "splits": counts}

    def _finish_split(self, directory: Path, config: Mapping[str, Any]) -> dict[str, Any]:
        directory.mkdir(exist_ok=True)
        shards = sorted(directory.glob("shard-*.arrow"))
        lengths = [_pairs_and_tokens(read_shard(shard)) for shard in shards]
        sums = np.cumsum(np.concatenate([np.zeros((0, 2), np.int64), *lengths]), axis=0)
        _write_index(directory / "index.arrow", sums)
        counts = {
            "num_groups": len(sums),
            "num_pairs": int(sums[-1, 0]) if len(sums) else 0,
            "num_tokens": int(sums[-1, 1]) if len(sums) else 0,
            "groups_per_shard": [len(part) for part in lengths],
        }
        Manifest(
            kind="shards",
            fingerprint=self.fingerprint,
            config={**config, "split": directory.name},
            inputs={},
            counts=counts,
            files=describe_files(directory),
        ).write(directory)
        return counts


def read_shard(path: Path) -> pa.Table:
    """A shard or part as a memory-mapped table."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        return reader.read_all()


def _pairs_and_tokens(table: pa.Table) -> np.ndarray:
    """Pairs and tokens of each group [groups, 2]; a prompt counts once."""
    rows = [np.zeros((0, 2), np.int64)]
    for batch in table.select(["prompt_ids", "response_ids", "pairs"]).to_batches():
        prompt, response, pairs = batch.columns
        tokens = np.diff(prompt.offsets.to_numpy())
        inner = response.values.offsets.to_numpy()
        ends = response.offsets.to_numpy()
        rows.append(
            np.stack(
                [np.diff(pairs.offsets.to_numpy()), tokens + np.diff(inner[ends])], axis=1
            ).astype(np.int64)
        )
    return np.concatenate(rows)


def _write_index(path: Path, sums: np.ndarray) -> None:
    table = pa.table([pa.array(sums[:, 0]), pa.array(sums[:, 1])], schema=SHARD_INDEX_SCHEMA)

    def write(hidden: Path) -> None:
        with pa.OSFile(str(hidden), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    write_atomic(path, write)
