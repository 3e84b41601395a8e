"""Speed of encoding: the tokenizers library against the fast path, alone and in the build's stage.

    .venv/bin/python benchmarks/encoding.py BUILD
    .venv/bin/python benchmarks/encoding.py BUILD --tokenizer FOLDER

BUILD is a finished build: its groups are encoded by its own tokenizer, or by that of FOLDER, in one
thread. Prints a table, and as the last line one JSON object; `same_ids` and `same_shards` compare
every text and every byte.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
from measure import Measured, best_of, measure, print_ratios, print_table

from data_pipeline.stages import tokenise
from data_pipeline.stages.shard import read_shard
from data_pipeline.stages.tokenise import Tokenise
from worldpm.chat_template import Encoder
from worldpm.fast_bpe import FastBpe, fast_bpe

REPEATS = 3
MAX_TOKENS = 4096


def read_texts(groups: Path) -> list[str]:
    """Every prompt and response of a build."""
    return [
        text["content"]
        for path in sorted(groups.glob("*.parquet"))
        for row in pq.read_table(path, columns=["prompt", "responses"]).to_pylist()
        for text in (*row["prompt"], *row["responses"])
    ]


def encode_all(texts: list[str], slow: Encoder, fast: FastBpe | None) -> list[list[int]]:
    """Ids of every text, by the library where there is no fast encoder or it is not certain."""
    library = slow.tokenizer.encode
    ids: list[list[int]] = []
    for text in texts:
        found = fast.encode(text) if fast else None
        ids.append(library(text, add_special_tokens=False).ids if found is None else found)
    return ids


def run_stage(build: Path, encoder: Encoder, directory: Path) -> None:
    """Do the tasks of the stage in turn, in this process, with this encoder."""
    buckets = sorted(path.stem for path in (build / "groups").glob("*.parquet"))
    split: Any = SimpleNamespace(directory=build / "groups", tasks=lambda: buckets)
    tokenizer: Any = SimpleNamespace(directory=build / "tokenizer", fingerprint="")
    stage = Tokenise(directory, split, tokenizer, MAX_TOKENS)
    with patch.object(tokenise, "_encoder", lambda *_: encoder):
        for task in stage.tasks():
            stage.run_task(task, directory)


def digest(directory: Path) -> tuple[str, int]:
    """Hash of the shards in a folder, and their tokens."""
    content, tokens = hashlib.sha256(), 0
    for path in sorted(directory.glob("*.arrow")):
        content.update(path.name.encode() + path.read_bytes())
        for batch in read_shard(path).to_batches():
            ids = batch["prompt_ids"], batch["response_ids"].flatten()
            tokens += sum(len(column.flatten()) for column in ids)
    return content.hexdigest(), tokens


def compare_texts(build: Path, slow: Encoder, fast: FastBpe | None) -> Iterator[tuple[Any, ...]]:
    """A row of the table each, then the texts left to the library and whether the ids are equal."""
    texts = read_texts(build / "groups")
    work: dict[str, Callable[[], list[list[int]]]] = {
        "texts, tokenizers": lambda: encode_all(texts, slow, None),
        "texts, fast": lambda: encode_all(texts, slow, fast),
    }
    results = {name: best_of(REPEATS, call) for name, call in work.items()}
    for name, (ids, seconds) in results.items():
        yield name, sum(map(len, ids)), seconds
    left = len(texts) if fast is None else sum(fast.encode(text) is None for text in texts)
    expected, found = (ids for ids, _ in results.values())
    yield len(texts), left, found == expected


def compare_stages(build: Path, slow: Encoder) -> Iterator[tuple[Any, ...]]:
    """A row of the table each, then whether the shards are equal."""
    hashes: list[str] = []
    for name, encoder in (("stage, tokenizers", slow), ("stage, fast", slow.with_fast_bpe())):
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            _, seconds = best_of(REPEATS, lambda: run_stage(build, encoder, directory))  # noqa: B023
            content, tokens = digest(directory)
        hashes.append(content)
        yield name, tokens, seconds
    yield (hashes[0] == hashes[1],)


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer or checkpoint folder")
    arguments = parser.parse_args()
    slow = Encoder.from_folder(arguments.tokenizer or arguments.build / "tokenizer")
    fast, load = measure(lambda: fast_bpe(slow.tokenizer))
    *text_rows, (num_texts, num_left, same_ids) = compare_texts(arguments.build, slow, fast)
    *stage_rows, (same_shards,) = compare_stages(arguments.build, slow)
    rows: list[tuple[str, int, Measured]] = [*text_rows, *stage_rows]
    rates = [tokens / seconds.cpu_s / 1e6 for _, tokens, seconds in rows]
    print_table(
        ("what", "tokens", "CPU s", "M tokens / CPU s"),
        [(name, f"{n:,}", s.cpu_s, rate) for (name, n, s), rate in zip(rows, rates, strict=True)],
    )
    print_ratios(
        texts_faster_by=rates[1] / rates[0],
        stage_faster_by=rates[3] / rates[2],
        stage_m_tokens_per_cpu_s=rates[3],
        texts=num_texts,
        texts_left_to_the_library=num_left,
        load_cpu_s=load.cpu_s,
        same_ids=same_ids,
        same_shards=same_shards,
    )


if __name__ == "__main__":
    main()
