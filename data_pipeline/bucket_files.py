"""Arrow IPC files whose record batch b holds the rows of bucket b: how a step hands rows to a later
step that works on another partition, without a shuffle engine and with one small file a task."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from worldpm.artifacts import write_atomic
from worldpm.errors import WorldPMError


def write_bucket_file(path: Path, table: pa.Table, buckets: np.ndarray, num_buckets: int) -> None:
    """Write the table's rows sorted by bucket (stable), one record batch a bucket, atomically.

    Raises:
        WorldPMError: a bucket's text does not fit into one record batch.
    """
    order = np.argsort(buckets, kind="stable")
    ends = np.searchsorted(buckets[order], np.arange(num_buckets), side="right")
    is_sorted = bool(np.all(buckets[1:] >= buckets[:-1]))  # as with a single bucket
    table = table.combine_chunks()  # picking rows out of many pieces takes several times as long

    def write(hidden: Path) -> None:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            pa.OSFile(str(hidden), "wb") as sink,
            pa.ipc.new_file(sink, table.schema, options=options) as writer,
        ):
            start = 0
            for end in ends:
                rows = (
                    table.slice(start, end - start)
                    if is_sorted
                    else table.take(pa.array(order[start:end]))
                )
                writer.write_batch(_one_batch(rows))
                start = int(end)

    write_atomic(path, write)


def read_bucket(paths: Iterable[Path], bucket: int, schema: pa.Schema) -> pa.Table:
    """The rows of one bucket out of several files in the order of their names, in one piece."""
    batches: list[pa.RecordBatch] = []
    for path in sorted(paths):
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            batches.append(reader.get_batch(bucket))
    return pa.Table.from_batches(batches, schema).combine_chunks()


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    if len(batches) > 1:  # 32-bit offsets end there
        raise WorldPMError("a bucket of one file holds more than 2 GB of text: set more buckets")
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
