"""Score a file of groups chunk by chunk: resumable, and the output appears whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from worldpm.artifacts import (
    atomic_file,
    file_sha256,
    fingerprint,
    read_json,
    write_atomic,
    write_json,
)
from worldpm.errors import InputError
from worldpm.group_files import read_group_file
from worldpm.log import Progress
from worldpm.schema import Group, GroupScores
from worldpm.scoring.scorer import GroupScorer

# Groups between two resting points: enough to fill rows well, few enough to lose little.
CHUNK_GROUPS = 256

JOB_FILE = "job.json"
SCORES_SCHEMA = pa.schema([("id", pa.string()), ("scores", pa.list_(pa.float64()))])


@dataclass(frozen=True, slots=True)
class ScoreCounts:
    """What a scoring job did; `groups_resumed` were scored by an earlier, interrupted run."""

    groups: int
    responses: int
    groups_resumed: int
    prompts_cut: int
    responses_cut: int


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """What identifies a checkpoint cheaply: its JSON files, and size and time of its weights."""
    weights = {
        path.name: [path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(folder.glob("*.safetensors"))
    }
    jsons = {path.name: file_sha256(path) for path in sorted(folder.glob("*.json"))}
    return {"weights": weights, "files": jsons}


def describe_input(path: Path) -> dict[str, str]:
    """SHA-256 of the input file, or of each Parquet file of an input folder.

    Raises:
        InputError: there is nothing at `path`.
    """
    if path.is_dir():
        return {part.name: file_sha256(part) for part in sorted(path.glob("*.parquet"))}
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return {path.name: file_sha256(path)}


def score_file(
    make_scorer: Callable[[], GroupScorer],
    source: Path,
    target: Path,
    *,
    job: Mapping[str, Any],
    progress: Progress,
    chunk_groups: int = CHUNK_GROUPS,
    with_lengths: bool = False,
) -> ScoreCounts:
    """Write the scores of every group of `source` to `target` (`.jsonl` or `.parquet`), in order.

    `with_lengths` adds `response_tokens`, the tokens of every response, to JSON lines.

    Finished chunks wait in a hidden folder beside `target`, so an interrupted job goes on where it
    stopped; a job of another checkpoint, input or option (`job`) begins anew.

    Raises:
        InputError: the input is damaged, or the output's suffix is unknown.
    """
    if target.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"{target}: scores are written to .jsonl and .parquet files")
    workplace = target.with_name(f".{target.name}.partial")
    identity = fingerprint(dict(job), describe_input(source), chunk_groups)
    _open_workplace(workplace, identity)
    counts = _score_chunks(make_scorer, source, workplace, progress, chunk_groups)
    _join(workplace, source, target, with_lengths=with_lengths)
    shutil.rmtree(workplace)
    return counts


def _open_workplace(workplace: Path, identity: str) -> None:
    job = workplace / JOB_FILE
    if job.is_file() and read_json(job)["identity"] == identity:
        return
    shutil.rmtree(workplace, ignore_errors=True)
    workplace.mkdir(parents=True)
    write_json(job, {"identity": identity})


def _score_chunks(
    make_scorer: Callable[[], GroupScorer],
    source: Path,
    workplace: Path,
    progress: Progress,
    chunk_groups: int,
) -> ScoreCounts:
    scorer: GroupScorer | None = None
    groups = responses = resumed = prompts_cut = responses_cut = 0
    for number, chunk in enumerate(_chunked(read_group_file(source), chunk_groups)):
        path = workplace / f"chunk-{number:08d}.jsonl"
        if path.is_file():
            resumed += len(chunk)
        else:
            scorer = scorer or make_scorer()
            with atomic_file(path) as file:
                file.writelines(_to_line(result) for result in scorer.score(chunk))
        for line in _read_chunk(path):
            groups += 1
            responses += len(line["scores"])
            prompts_cut += line["prompt_tokens_cut"] > 0
            responses_cut += sum(cut > 0 for cut in line["response_tokens_cut"])
        progress.advance(len(chunk))
    return ScoreCounts(groups, responses, resumed, prompts_cut, responses_cut)


def _chunked(groups: Iterator[Group], size: int) -> Iterator[list[Group]]:
    while chunk := list(islice(groups, size)):
        yield chunk


def _to_line(result: GroupScores) -> str:
    line = {
        "id": result.group_id,
        "scores": list(result.scores),
        "response_tokens": list(result.num_response_tokens),
        "prompt_tokens_cut": result.prompt_tokens_cut,
        "response_tokens_cut": list(result.response_tokens_cut),
    }
    return json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"


def _read_chunk(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _join(workplace: Path, source: Path, target: Path, *, with_lengths: bool) -> None:
    chunks = sorted(workplace.glob("chunk-*.jsonl"))
    if target.suffix == ".parquet":
        write_atomic(target, lambda hidden: _join_parquet(chunks, hidden))
        return
    lines = (line for chunk in chunks for line in _read_chunk(chunk))
    # A group's id is a text; the output repeats the id as it stands in the input, also a number.
    ids = _line_ids(source) if source.suffix == ".jsonl" else None
    with atomic_file(target) as file:
        for line in lines:
            kept = {"id": line["id"] if ids is None else next(ids), "scores": line["scores"]}
            if with_lengths:
                kept["response_tokens"] = line["response_tokens"]
            file.write(json.dumps(kept, ensure_ascii=False) + "\n")


def _line_ids(source: Path) -> Iterator[Any]:
    with source.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)["id"]


def _join_parquet(chunks: list[Path], path: Path) -> None:
    with pq.ParquetWriter(path, SCORES_SCHEMA) as writer:
        for chunk in chunks:
            rows = [{"id": line["id"], "scores": line["scores"]} for line in _read_chunk(chunk)]
            writer.write_table(pa.Table.from_pylist(rows, SCORES_SCHEMA))
