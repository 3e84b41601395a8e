"""Read token shards: memory-mapped, any group by its number, from a disk or an object store.

```
<data>/shards/<split>/manifest.json      counts, hashes of tokenizer and template
<data>/shards/<split>/index.arrow        cumulative pairs and tokens, one row a group
<data>/shards/<split>/shard-NNNNN.arrow  the groups, in the global order
```
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from worldpm.artifacts import Manifest
from worldpm.data.order import PairIndex
from worldpm.data.packing import GroupLengths
from worldpm.data.storage import DataFolder
from worldpm.data.token_group import Ints, TokenGroup
from worldpm.errors import ArtifactError
from worldpm.schema import SHARD_INDEX_SCHEMA, TOKEN_SHARD_SCHEMA, Split

INDEX_FILE = "index.arrow"
SHARDS_FOLDER = "shards"
# Record batches kept open; a permuted epoch jumps between them.
MAX_OPEN_BATCHES = 512


@dataclass(frozen=True, slots=True)
class ShardSetInfo:
    """What the manifest of a split's shards says."""

    fingerprint: str
    num_groups: int
    num_pairs: int
    num_tokens: int
    groups_per_shard: tuple[int, ...]
    tokenizer_hash: str
    template_hash: str
    max_tokens: int


class ShardSet:
    """The groups of one split, numbered in the global order.

    Memory is that of the open record batches: files are mapped, not read.

    Raises:
        ArtifactError: the manifest and the files do not agree.
    """

    def __init__(self, folder: DataFolder, split: Split) -> None:
        self.split = split
        self._folder = folder
        self._prefix = f"{SHARDS_FOLDER}/{split}"
        manifest = folder.local_path(f"{self._prefix}/manifest.json")
        self.info = _read_info(manifest.parent)
        self._first_group = np.concatenate([[0], np.cumsum(self.info.groups_per_shard)])
        self._readers: dict[int, Any] = {}
        self._batches: OrderedDict[tuple[int, int], pa.RecordBatch] = OrderedDict()
        self._batch_rows: dict[int, int] = {}
        self.index = self._read_index() if self.info.num_groups else PairIndex([])
        self._check()

    def read(self, groups: Sequence[int] | Ints) -> list[TokenGroup]:
        """The groups of these numbers, in this order."""
        return [self._read_group(*self._locate(int(group))) for group in groups]

    def lengths(self, groups: Sequence[int] | Ints) -> GroupLengths:
        """The lengths of these groups, from list offsets alone: no token is touched."""
        prompts: list[int] = []
        counts: list[int] = []
        responses: list[np.ndarray] = []
        for group in groups:
            batch, row = self._locate(int(group))
            start, stop = _bounds(batch.column("prompt_ids"), row)
            prompts.append(stop - start)
            outer = batch.column("response_ids")
            first, last = _bounds(outer, row)
            counts.append(last - first)
            ends = outer.values.offsets[first : last + 1].to_numpy()
            responses.append(np.diff(ends))
        return GroupLengths.from_lengths(
            np.asarray(prompts, np.int64),
            np.asarray(counts, np.int64),
            np.concatenate(responses or [np.zeros(0, np.int64)]).astype(np.int64),
        )

    def _locate(self, group: int) -> tuple[pa.RecordBatch, int]:
        assert 0 <= group < self.info.num_groups, f"there is no group {group}"
        shard = int(np.searchsorted(self._first_group, group, side="right")) - 1
        reader = self._reader(shard)
        number, row = divmod(group - int(self._first_group[shard]), self._batch_rows[shard])
        key = (shard, number)
        batch = self._batches.get(key)
        if batch is None:
            batch = reader.get_batch(number)
            self._batches[key] = batch
            if len(self._batches) > MAX_OPEN_BATCHES:
                self._batches.popitem(last=False)
        if row >= batch.num_rows:
            raise ArtifactError(
                f"{self._prefix}: shard {shard} has record batches of unequal size; rebuild it"
            )
        return batch, row

    def _reader(self, shard: int) -> Any:
        if shard not in self._readers:
            path = self._folder.local_path(f"{self._prefix}/shard-{shard:05d}.arrow")
            reader = _open_arrow(path, TOKEN_SHARD_SCHEMA)
            first = reader.get_batch(0).num_rows if reader.num_record_batches else 0
            batches_needed = -(-self.info.groups_per_shard[shard] // first) if first else 0
            if batches_needed != reader.num_record_batches:
                raise ArtifactError(
                    f"{path} does not hold the {self.info.groups_per_shard[shard]} groups that "
                    "its manifest names: rebuild the data set"
                )
            self._batch_rows[shard] = first
            self._readers[shard] = reader
        return self._readers[shard]

    def _read_group(self, batch: pa.RecordBatch, row: int) -> TokenGroup:
        outer = batch.column("response_ids")
        first, last = _bounds(outer, row)
        ends = outer.values.offsets[first : last + 1].to_numpy()
        flat = outer.values.values
        pairs = batch.column("pairs")
        pair_start, pair_stop = _bounds(pairs, row)
        table = pairs.values.slice(pair_start, pair_stop - pair_start)
        return TokenGroup(
            group_id=batch.column("group_id")[row].as_py(),
            prompt_ids=_row(batch.column("prompt_ids"), row),
            response_ids=tuple(
                flat.slice(int(begin), int(end - begin)).to_numpy() for begin, end in pairwise(ends)
            ),
            chosen=table.field("chosen").to_numpy().astype(np.int64),
            rejected=table.field("rejected").to_numpy().astype(np.int64),
            margin=table.field("margin").to_numpy().astype(np.int64),
            weight=table.field("weight").to_numpy(),
            scores=_row(batch.column("response_scores"), row).astype(np.int64),
        )

    def _read_index(self) -> PairIndex:
        path = self._folder.local_path(f"{self._prefix}/{INDEX_FILE}")
        reader = _open_arrow(path, SHARD_INDEX_SCHEMA)
        return PairIndex(
            [
                reader.get_batch(number).column("cumulative_pairs").to_numpy()
                for number in range(reader.num_record_batches)
            ]
        )

    def _check(self) -> None:
        info = self.info
        found = (sum(info.groups_per_shard), self.index.num_groups, self.index.num_pairs)
        if found != (info.num_groups, info.num_groups, info.num_pairs):
            raise ArtifactError(
                f"{self._prefix}: the manifest names {info.num_groups} groups and "
                f"{info.num_pairs} pairs; shards and index hold {found}: rebuild the data set"
            )


def _read_info(folder: Path) -> ShardSetInfo:
    manifest = Manifest.read(folder)
    try:
        return ShardSetInfo(
            fingerprint=manifest.fingerprint,
            num_groups=manifest.counts["num_groups"],
            num_pairs=manifest.counts["num_pairs"],
            num_tokens=manifest.counts["num_tokens"],
            groups_per_shard=tuple(manifest.counts["groups_per_shard"]),
            tokenizer_hash=manifest.config["tokenizer_hash"],
            template_hash=manifest.config["template_hash"],
            max_tokens=manifest.config["max_tokens"],
        )
    except KeyError as exc:
        raise ArtifactError(
            f"{folder / 'manifest.json'} lacks {exc}: rebuild the data set"
        ) from exc


def _open_arrow(path: Path, schema: pa.Schema) -> Any:
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
    except (pa.ArrowInvalid, OSError) as exc:
        raise ArtifactError(f"{path} is no Arrow file ({exc}): rebuild the data set") from exc
    missing = [name for name in schema.names if name not in reader.schema.names]
    if missing:
        raise ArtifactError(f"{path}: the column {missing[0]} is missing: rebuild the data set")
    return reader


def _bounds(column: pa.ListArray, row: int) -> tuple[int, int]:
    offsets = column.offsets
    return offsets[row].as_py(), offsets[row + 1].as_py()


def _row(column: pa.ListArray, row: int) -> np.ndarray:
    start, stop = _bounds(column, row)
    return column.values.slice(start, stop - start).to_numpy()
