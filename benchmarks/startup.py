"""Seconds and memory until a training run has its first step, on 15 M simulated pairs.

    python benchmarks/startup.py [--pairs 15000000]

The index is as large as the real one; its shards are one file under many names, so the disk holds
a few megabytes of tokens. Each count runs in a process of its own: open the data as a run does,
read step 0 (a start), a step of the middle (a resume) and one of a second, permuted epoch. Memory
is what the process itself holds; mapped files are not counted, for the system takes their pages
back. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyarrow as pa
from measure import print_ratios, print_table

from worldpm.artifacts import Manifest
from worldpm.schema import SHARD_INDEX_SCHEMA, TOKEN_SHARD_SCHEMA

PAIRS_PER_STEP = 10_000
GROUPS_PER_SHARD = 8192
PROMPT_TOKENS, RESPONSE_TOKENS = 60, 70


def write_shard(path: Path) -> None:
    """One shard of two-answer groups; all have the same length, so that any index fits."""
    random = np.random.default_rng(0)
    rows = [
        {
            "group_id": f"site/{number}",
            "prompt_ids": random.integers(0, 4096, PROMPT_TOKENS),
            "response_ids": [random.integers(0, 4096, RESPONSE_TOKENS) for _ in range(2)],
            "response_scores": [2, 1],
            "pairs": [{"chosen": 0, "rejected": 1, "margin": 1, "weight": 1.0}],
        }
        for number in range(GROUPS_PER_SHARD)
    ]
    table = pa.Table.from_pylist(rows, TOKEN_SHARD_SCHEMA)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=64)


def simulate(folder: Path, num_pairs: int) -> None:
    """A training split of `num_pairs` groups of one pair each."""
    split = folder / "shards/train"
    split.mkdir(parents=True)
    num_shards = -(-num_pairs // GROUPS_PER_SHARD)
    sizes = [GROUPS_PER_SHARD] * num_shards
    total = sum(sizes)
    first = split / "shard-00000.arrow"
    write_shard(first)
    for number in range(1, num_shards):
        (split / f"shard-{number:05d}.arrow").hardlink_to(first)
    pairs = np.arange(1, total + 1)
    tokens_per_group = PROMPT_TOKENS + 2 * RESPONSE_TOKENS
    table = pa.table(
        {"cumulative_pairs": pairs, "cumulative_tokens": pairs * tokens_per_group},
        schema=SHARD_INDEX_SCHEMA,
    )
    index = str(split / "index.arrow")
    with pa.OSFile(index, "wb") as sink, pa.ipc.new_file(sink, SHARD_INDEX_SCHEMA) as writer:
        writer.write_table(table)
    Manifest(
        kind="token_shards",
        fingerprint="0" * 64,
        config={"tokenizer_hash": "", "template_hash": "", "max_tokens": 2048},
        inputs={},
        counts={
            "num_groups": total,
            "num_pairs": total,
            "num_tokens": total * tokens_per_group,
            "groups_per_shard": sizes,
        },
    ).write(split)


def anonymous_mb() -> float:
    """Memory of this process alone, without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def start(folder: Path) -> dict[str, float]:
    """Open the data as a run does and read three steps; seconds and memory."""
    from worldpm.data.loader import Packing, StepLoader
    from worldpm.data.order import TrainingOrder
    from worldpm.data.shards import ShardSet
    from worldpm.data.storage import DataFolder

    before_mb, found = anonymous_mb(), {}
    clock, cpu = time.perf_counter(), time.process_time()
    shards = ShardSet(DataFolder(str(folder)), "train")
    order = TrainingOrder(shards.index, pairs_per_step=PAIRS_PER_STEP, epochs=2)
    found["open_s"] = time.perf_counter() - clock
    loader = StepLoader(shards, order, Packing(16_384, world_size=64))
    places = {
        "first": 0,
        "middle": order.steps_per_epoch // 2,
        "second_epoch": order.steps_per_epoch + 1,
    }
    for name, number in places.items():
        began = time.perf_counter()
        loader.load(number)
        found[f"{name}_s"] = time.perf_counter() - began
        found[f"{name}_mb"] = anonymous_mb() - before_mb
    return {
        **found,
        "start_s": found["open_s"] + found["first_s"],
        "all_cpu_s": time.process_time() - cpu,
    }


def measure_count(num_pairs: int) -> dict[str, float]:
    """Simulate and start in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), num_pairs)
        command = [sys.executable, __file__, "--start", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    """Measure a tenth and the whole; print the table and the last line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15_000_000)
    parser.add_argument("--start", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start is not None:
        print(json.dumps(start(arguments.start)))
        return
    found = {count: measure_count(count) for count in (arguments.pairs // 10, arguments.pairs)}
    names = list(next(iter(found.values())))
    print_table(("pairs", *names), [(f"{count:,}", *one.values()) for count, one in found.items()])
    tenth, whole = found.values()
    print_ratios(
        start_s=whole["start_s"],
        memory_mb=whole["middle_mb"],
        memory_over_a_tenth_of_the_pairs=whole["middle_mb"] / tenth["middle_mb"],
    )


if __name__ == "__main__":
    main()
