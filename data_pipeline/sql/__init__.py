"""The SQL of the build, one statement or a few a file, and the connection that runs it."""

from __future__ import annotations

import errno
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from worldpm.errors import WorldPMError

SQL_DIR = Path(__file__).parent


@contextmanager
def connect(memory_mb: int, spill_dir: Path) -> Generator[duckdb.DuckDBPyConnection]:
    """An in-memory database of one thread that spills into `spill_dir` beyond its memory.

    Raises:
        WorldPMError: the memory is not enough even so.
        OSError: the disk is full.
    """
    connection = duckdb.connect(
        config={
            "threads": 1,
            "memory_limit": f"{memory_mb}MB",
            "temp_directory": str(spill_dir / ".spill"),
            "preserve_insertion_order": True,
        }
    )
    try:
        yield connection
    except duckdb.OutOfMemoryException as exc:
        raise WorldPMError(
            f"{memory_mb} MB are not enough for one task ({exc}): raise executor.memory_gb, lower "
            "executor.workers, or set more buckets"
        ) from exc
    except duckdb.IOException as exc:
        if "No space left" not in str(exc):
            raise
        raise OSError(errno.ENOSPC, str(exc), str(spill_dir)) from exc
    finally:
        connection.close()


def run_file(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    variables: Mapping[str, object] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Run `<name>.sql`; its `getvariable('x')` are `variables`, which stay set."""
    for key, value in (variables or {}).items():
        connection.execute(f"SET VARIABLE {key} = ?", [value])
    return connection.execute((SQL_DIR / f"{name}.sql").read_text(encoding="utf-8"))


def query_file(connection: duckdb.DuckDBPyConnection, name: str) -> pa.Table:
    """The rows of `<name>.sql`, one SELECT."""
    return connection.sql((SQL_DIR / f"{name}.sql").read_text(encoding="utf-8")).to_arrow_table()


def fetch(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, np.ndarray]:
    """The columns of a query without nulls."""
    columns = connection.execute(query).fetchnumpy()
    return {name: np.asarray(values) for name, values in columns.items()}


@cache
def sql_files() -> Mapping[str, str]:
    """The text of every SQL file, for fingerprints."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(SQL_DIR.glob("*.sql"))}
