"""Rows handed on by bucket."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.bucket_files import read_bucket, write_bucket_file
from worldpm.errors import WorldPMError


@given(st.lists(st.integers(0, 3)), st.booleans())
def test_each_bucket_gets_its_rows_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, buckets: list[int], is_sorted: bool
) -> None:
    buckets = sorted(buckets) if is_sorted else buckets
    folder = tmp_path_factory.mktemp("buckets")
    table = pa.table({"row": pa.array(range(len(buckets)), pa.int64())})
    pieces = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    for name in ("a", "b"):
        write_bucket_file(folder / name, pieces, np.array(buckets, np.int64), 4)
    for bucket in range(4):
        rows = [row for row, place in enumerate(buckets) if place == bucket]
        read = read_bucket([folder / "b", folder / "a"], bucket, table.schema)
        assert read["row"].to_pylist() == rows * 2
        assert read["row"].num_chunks <= 1


@pytest.mark.slow
def test_a_bucket_of_more_than_2_gb_of_text_is_refused_not_cut(tmp_path: Path) -> None:
    num_bytes = 1_200_000_000
    buffers = [pa.py_buffer(np.array([0, num_bytes], np.int32)), pa.py_buffer(bytes(num_bytes))]
    text = pa.Array.from_buffers(pa.string(), 1, [None, *buffers])
    table = pa.table({"body": pa.chunked_array([text, text])})
    with pytest.raises(WorldPMError, match="set more buckets"):
        write_bucket_file(tmp_path / "file", table, np.zeros(2, np.int64), 1)
    assert not list(tmp_path.iterdir())
