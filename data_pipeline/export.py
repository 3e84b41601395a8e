"""Write the pairs of a build as flat rows: the conversational preference format of Hugging Face
`datasets`, one row a pair, that TRL, OpenRLHF and others train on."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow makes the functions of its compute module when it is imported)

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from data_pipeline.publication import read_manifest
from worldpm.artifacts import Manifest, atomic_file, write_atomic
from worldpm.config import ConfigModel
from worldpm.errors import ArtifactError, ConfigError, InputError
from worldpm.object_store import Location, ObjectFolder, StoredFile
from worldpm.schema import MESSAGE_TYPE, Split

Layout = Literal["messages", "message"]
ExtraColumn = Literal[
    "margin", "site", "question_id", "split", "weight", "group_id", "chosen_score", "rejected_score"
]
GROUPS_PER_BATCH = 2048
MESSAGES_TYPE = pa.list_(MESSAGE_TYPE)
EXTRA_TYPES: dict[ExtraColumn, pa.DataType] = {
    "margin": pa.int32(),
    "site": pa.string(),
    "question_id": pa.int64(),
    "split": pa.string(),
    "weight": pa.float32(),
    "group_id": pa.string(),
    "chosen_score": pa.int32(),
    "rejected_score": pa.int32(),
}


class ExportConfig(ConfigModel):
    """Settings of `worldpm data export`."""

    input: Location
    """A folder or URL that `worldpm data build` wrote to."""
    output: Location
    """The file or URL to write: .parquet or .jsonl."""
    splits: tuple[Split, ...] | None = None
    """Which splits; null exports all."""
    sites: tuple[str, ...] | None = None
    """Which hosts; null exports all."""
    min_margin: int = Field(default=1, ge=1)
    layout: Layout = "messages"
    """messages: chosen and rejected are lists of one message (datasets, TRL, OpenRLHF);
    message: they are the message itself (LLaMA-Factory's ranking data)."""
    columns: tuple[ExtraColumn, ...] = ("margin", "site", "question_id")
    """What stands beside prompt, chosen and rejected."""


def export_pairs(config: ExportConfig) -> int:
    """Write the file, whole or not at all; returns the number of pairs.

    Memory holds a few thousand groups at a time.

    Raises:
        ConfigError: the output's name says no known format.
        InputError: the input is no finished build.
    """
    suffix = PurePosixPath(str(config.output)).suffix
    write = {".parquet": _write_parquet, ".jsonl": _write_lines}.get(suffix)
    if write is None:
        raise ConfigError(f"output: {config.output} must end in .parquet or .jsonl")
    files = group_files(config.input)
    schema = _schema(config)
    tables = (_pairs(batch, config, schema) for path in files for batch in _batches(path, config))
    if isinstance(config.output, Path):
        return write(config.output, tables, schema)
    folder, _, name = config.output.rpartition("/")
    with tempfile.TemporaryDirectory() as local:
        num_pairs = write(Path(local) / name, tables, schema)
        ObjectFolder(folder).put(Path(local) / name, name)
    return num_pairs


def group_files(build: Path | str) -> Sequence[Path | StoredFile]:
    """The Parquet files of a finished build's groups, at a path or URL.

    Raises:
        InputError: there are none.
        ArtifactError: the build has no manifest.
    """
    files: Sequence[Path | StoredFile]
    if isinstance(build, Path):
        files = sorted((build / "groups").glob("*.parquet"))
    else:
        stored = ObjectFolder(f"{build}/groups").files()
        files = [file for name, file in stored.items() if name.endswith(".parquet")]
    if not files:
        raise InputError(f"{build}/groups holds no Parquet file: run `worldpm data build`")
    if isinstance(build, Path):
        Manifest.read(build)
    elif read_manifest(build) is None:
        raise ArtifactError(f"{build} has no manifest.json: that output is not complete")
    return files


def _schema(config: ExportConfig) -> pa.Schema:
    answer = MESSAGES_TYPE if config.layout == "messages" else MESSAGE_TYPE
    extras = [(name, EXTRA_TYPES[name]) for name in config.columns]
    return pa.schema([("prompt", MESSAGES_TYPE), ("chosen", answer), ("rejected", answer), *extras])


def _batches(path: Path | StoredFile, config: ExportConfig) -> Iterator[pa.Table]:
    columns = ["group_id", "site", "question_id", "prompt", "responses", "pairs", "split"]
    with path.open("rb") as raw, pq.ParquetFile(raw) as file:
        for batch in file.iter_batches(batch_size=GROUPS_PER_BATCH, columns=columns):
            table = pa.Table.from_batches([batch])
            for name, wanted in (("split", config.splits), ("site", config.sites)):
                if wanted is not None:
                    table = table.filter(pc.is_in(table[name], pa.array(wanted, pa.string())))
            yield table


def _pairs(groups: pa.Table, config: ExportConfig, schema: pa.Schema) -> pa.Table:
    responses = groups["responses"].combine_chunks()
    pairs = groups["pairs"].combine_chunks()
    margins = pairs.flatten().field("margin").to_numpy()
    owners = np.repeat(np.arange(len(groups)), _lengths(pairs))
    kept = np.flatnonzero(margins >= config.min_margin)
    fields, owners = pairs.flatten().take(pa.array(kept)), owners[kept]
    starts = np.cumsum(_lengths(responses)) - _lengths(responses)
    columns = {"prompt": groups["prompt"].take(pa.array(owners)), "margin": fields.field("margin")}
    columns["weight"] = fields.field("weight")
    for name in ("chosen", "rejected"):
        places = pa.array(fields.field(name).to_numpy() + starts[owners])
        answers = responses.flatten().take(places)
        columns[name] = _messages(answers.field("content"), config.layout)
        columns[f"{name}_score"] = answers.field("score")
    for name in ("site", "question_id", "split", "group_id"):
        columns[name] = groups[name].take(pa.array(owners))
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _messages(contents: pa.Array, layout: Layout) -> pa.Array:
    roles = pa.repeat(pa.scalar("assistant"), len(contents))
    messages = pa.StructArray.from_arrays([roles, contents], fields=list(MESSAGE_TYPE))
    if layout == "message":
        return messages
    return pa.ListArray.from_arrays(np.arange(len(contents) + 1, dtype=np.int32), messages)


def _lengths(lists: pa.ListArray) -> np.ndarray:
    return pc.list_value_length(lists).to_numpy().astype(np.int64)


def _write_parquet(path: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> int:
    num_rows = 0

    def write(hidden: Path) -> None:
        nonlocal num_rows
        with pq.ParquetWriter(hidden, schema, compression="zstd") as writer:
            for table in tables:
                if table.num_rows:
                    writer.write_table(table)
                    num_rows += table.num_rows

    write_atomic(path, write)
    return num_rows


def _write_lines(path: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> int:
    del schema
    num_rows = 0
    with atomic_file(path) as file:
        for table in tables:
            for row in table.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            num_rows += table.num_rows
    return num_rows
