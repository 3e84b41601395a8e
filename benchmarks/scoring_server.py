"""What HTTP costs over the scorer itself, and what many clients at once get from one server.

    .venv/bin/python benchmarks/scoring_server.py

Both run in one thread on the same random model; direct calls and requests for the same group
alternate, so that other load on the machine meets both, and the overhead is the median over these
pairs. Prompts have 200 tokens, responses 100; the clients' groups have four responses.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

from measure import print_ratios, print_table
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.client import AsyncScoringClient, ScoringClient
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.score_head import HeadInit
from worldpm.schema import Group, Message
from worldpm.scoring import Scorer
from worldpm.scoring.heap import keep_freed_memory

ARCHITECTURE = {
    "model_type": "qwen2",
    "vocab_size": 320,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
}
GROUP_SIZES = (1, 4, 16, 64)
NUM_CLIENTS = (1, 16, 128)
PROMPT_CHARS, RESPONSE_CHARS = 180, 88  # one token a byte, and the template's own
CONCURRENT_GROUP_SIZE = 4
LETTERS = "abcdefghijklmnopqrstuvwxyz ,."


Result = TypeVar("Result")

# Seconds on the wall, and of the CPU of whoever computes the scores.
Seconds = tuple[float, float]


def write_checkpoint(
    folder: Path, architecture: Mapping[str, Any] = ARCHITECTURE, head_init: HeadInit = "inverse"
) -> None:
    """A random model, of about 13 M parameters by default, with one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    # As Qwen's, which transformers 5 puts in place of any other for this model type.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in specials])
    model = PreferenceModel.from_architecture(architecture, seed=0, head_init=head_init)
    save_portable(model, Encoder(tokenizer, CHATML_OWN), folder)


def random_group(choice: random.Random, num_responses: int) -> Group:
    """A group of the measured lengths; no two are alike."""

    def text(length: int) -> str:
        return "".join(choice.choices(LETTERS, k=length))

    responses = tuple(text(RESPONSE_CHARS) for _ in range(num_responses))
    return Group("g", (Message("user", text(PROMPT_CHARS)),), responses)


@contextmanager
def served(checkpoint: Path) -> Iterator[tuple[str, int]]:
    """A server in a process of its own: its address and number."""
    log = checkpoint.with_name("server.log")
    command = [str(Path(sys.executable).with_name("worldpm")), "serve", str(checkpoint)]
    with log.open("w") as file:
        process = subprocess.Popen([*command, "--port", "0"], stderr=file)
    try:
        while "ready" not in log.read_text():
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        url = next(word for word in log.read_text().split() if word.startswith("http://"))
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(timeout=60)


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, by the kernel's own clock: /proc counts steps of 10 ms."""
    return time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of linux/posix-timers.h


def timed(work: Callable[[], Result], pid: int) -> tuple[Result, Seconds]:
    """Run once; the CPU seconds are those of process `pid`."""
    wall_s, used_s = time.perf_counter(), cpu_s(pid)
    result = work()
    return result, (time.perf_counter() - wall_s, cpu_s(pid) - used_s)


def compare(
    scorer: Scorer, client: ScoringClient, server: int, num_responses: int, repeats: int
) -> tuple[list[Seconds], list[Seconds]]:
    """Seconds of direct calls, and of requests for the same groups."""
    choice = random.Random(num_responses)
    direct: list[Seconds] = []
    remote: list[Seconds] = []
    for _ in range(repeats + 1):
        group = random_group(choice, num_responses)
        own, seconds = timed(lambda group=group: scorer.score([group])[0].scores, os.getpid())
        direct.append(seconds)
        theirs, seconds = timed(lambda group=group: client.score([group])[0].scores, server)
        remote.append(seconds)
        assert all(abs(a - b) < 1e-5 for a, b in zip(own, theirs, strict=True))
    # The first call warms both up.
    return direct[1:], remote[1:]


def measure_overhead(scorer: Scorer, url: str, server: int, repeats: int) -> dict[str, float]:
    """Print a table of direct calls and requests; returns the overheads."""
    rows: list[list[object]] = []
    ratios: dict[str, float] = {}
    with ScoringClient(url) as client:
        for size in GROUP_SIZES:
            num_pairs = max(8, round(repeats / math.sqrt(size)))
            direct, remote = compare(scorer, client, server, size, num_pairs)
            medians = [
                1e3 * statistics.median(seconds[part] for seconds in calls)
                for calls in (direct, remote)
                for part in (1, 0)
            ]
            overheads = [
                statistics.median(b[part] / a[part] for a, b in zip(direct, remote, strict=True))
                - 1
                for part in (1, 0)
            ]
            rows.append([size, num_pairs, *medians, *(f"{part:+.1%}" for part in overheads)])
            ratios[f"http_cpu_overhead_{size}"], ratios[f"http_overhead_{size}"] = overheads
    head = ["responses", "pairs", "scorer CPU ms", "wall ms", "server CPU ms", "wall ms",
            "overhead CPU", "wall"]  # fmt: skip
    print_table(head, rows)
    return ratios


async def _load(url: str, num_clients: int, num_requests: int) -> tuple[float, list[float]]:
    choice = random.Random(num_clients)
    groups = [random_group(choice, CONCURRENT_GROUP_SIZE) for _ in range(num_requests)]
    latencies_s: list[float] = []
    async with AsyncScoringClient(url, timeout_s=600) as client:

        async def one_client() -> None:
            while groups:
                group = groups.pop()
                started_s = time.perf_counter()
                await client.score([group])
                latencies_s.append(time.perf_counter() - started_s)

        started_s = time.perf_counter()
        await asyncio.gather(*[one_client() for _ in range(num_clients)])
        return time.perf_counter() - started_s, latencies_s


def measure_load(url: str, server: int, num_requests: int) -> dict[str, float]:
    """Print a table of throughput and waiting under several clients; returns the ratios."""
    rows: list[list[object]] = []
    ratios: dict[str, float] = {}
    speeds: dict[int, float] = {}
    for clients in NUM_CLIENTS:
        (wall_s, latencies_s), (_, used_s) = timed(
            lambda clients=clients: asyncio.run(
                _load(url, clients, num_requests if clients > 1 else num_requests // 4)
            ),
            server,
        )
        speeds[clients] = len(latencies_s) / wall_s
        cuts = statistics.quantiles(latencies_s, n=100, method="inclusive")
        per_request_ms = used_s / len(latencies_s) * 1e3
        rows.append([clients, len(latencies_s), speeds[clients], 1e3 * cuts[49], 1e3 * cuts[98],
                     per_request_ms])  # fmt: skip
        ratios[f"p99_over_p50_{clients}"] = cuts[98] / cuts[49]
        ratios[f"throughput_{clients}_over_1"] = speeds[clients] / speeds[1]
    print_table(["clients", "requests", "a second", "p50 ms", "p99 ms", "CPU ms each"], rows)
    return ratios


def measure_server(repeats: int, num_requests: int | None) -> dict[str, float]:
    """Overheads and, where asked with a number of requests, load; prints the tables."""
    keep_freed_memory()  # as the server does
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        write_checkpoint(checkpoint)
        scorer = Scorer.from_checkpoint(checkpoint)
        with served(checkpoint) as (url, server):
            ratios = measure_overhead(scorer, url, server, repeats)
            if num_requests is not None:
                ratios |= measure_load(url, server, num_requests)
    return ratios


def main() -> None:
    """Measure, and print the ratios as the last line."""
    parser = argparse.ArgumentParser(description="Measure HTTP overhead and load.")
    parser.add_argument("--repeats", type=int, default=60, help="pairs for a single response")
    parser.add_argument("--requests", type=int, default=256, help="requests for each load")
    arguments = parser.parse_args()
    print_ratios(**measure_server(arguments.repeats, arguments.requests))


if __name__ == "__main__":
    main()
