"""What HTTP costs over the scorer itself, and what many clients at once get from one server.

    .venv/bin/python benchmarks/scoring_server.py

Both run in one thread on the same random model; direct calls and requests alternate, so that other
load on the machine meets both. Prompts have 200 tokens, responses 100.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psutil
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.client import AsyncScoringClient, ScoringClient
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.schema import Group, Message
from worldpm.scoring import Scorer

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


@dataclass(frozen=True)
class Times:
    """Seconds: wall and the server's CPU (the scorer's own for direct calls)."""

    wall_s: float
    cpu_s: float


def write_checkpoint(folder: Path) -> None:
    """A random model of about 13 M parameters with one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    # As Qwen's, which transformers 5 puts in place of any other for this model type.
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in specials])
    model = PreferenceModel.from_architecture(ARCHITECTURE, seed=0)
    save_portable(model, Encoder(tokenizer, CHATML_OWN), folder)


def random_group(choice: random.Random, num_responses: int) -> Group:
    """A group of the measured lengths; no two are alike."""

    def text(length: int) -> str:
        return "".join(choice.choices(LETTERS, k=length))

    responses = tuple(text(RESPONSE_CHARS) for _ in range(num_responses))
    return Group("g", (Message("user", text(PROMPT_CHARS)),), responses)


@contextmanager
def served(checkpoint: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own."""
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
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=60)


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds a process has used."""
    times = process.cpu_times()
    return times.user + times.system


def compare(
    scorer: Scorer, url: str, server: psutil.Process, num_responses: int, repeats: int
) -> tuple[Times, Times]:
    """Median wall and mean CPU times of a direct call and of a request, for one group."""
    choice = random.Random(num_responses)
    own = psutil.Process()
    direct: list[Times] = []
    remote: list[Times] = []
    with ScoringClient(url) as client:
        client.score([random_group(choice, num_responses)])
        scorer.score([random_group(choice, num_responses)])
        for _ in range(repeats):
            group = random_group(choice, num_responses)
            started_s, cpu_started_s = time.perf_counter(), cpu_s(own)
            expected = scorer.score([group])[0].scores
            direct.append(Times(time.perf_counter() - started_s, cpu_s(own) - cpu_started_s))
            started_s, cpu_started_s = time.perf_counter(), cpu_s(server)
            scores = client.score([group])[0].scores
            remote.append(Times(time.perf_counter() - started_s, cpu_s(server) - cpu_started_s))
            assert all(abs(a - b) < 1e-5 for a, b in zip(scores, expected, strict=True))
    return _typical(direct), _typical(remote)


def _typical(times: list[Times]) -> Times:
    # The kernel counts CPU time in steps of 10 ms: only the mean over many calls is exact.
    return Times(
        statistics.median(time.wall_s for time in times),
        statistics.fmean(time.cpu_s for time in times),
    )


async def _load(url: str, num_clients: int, num_requests: int) -> tuple[float, list[float]]:
    choice = random.Random(num_clients)
    groups = [random_group(choice, CONCURRENT_GROUP_SIZE) for _ in range(num_requests)]
    latencies_s: list[float] = []
    async with AsyncScoringClient(url) as client:

        async def one_client() -> None:
            while groups:
                group = groups.pop()
                started_s = time.perf_counter()
                await client.score([group])
                latencies_s.append(time.perf_counter() - started_s)

        started_s = time.perf_counter()
        await asyncio.gather(*[one_client() for _ in range(num_clients)])
        return time.perf_counter() - started_s, latencies_s


def measure(repeats: int, num_requests: int) -> dict[str, float]:
    """Run everything and print the tables; returns the ratios."""
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        write_checkpoint(checkpoint)
        scorer = Scorer.from_checkpoint(checkpoint)
        with served(checkpoint) as (url, server):
            print("responses | scorer ms (CPU) | server ms (CPU) | overhead (CPU)")
            for size in GROUP_SIZES:
                direct, remote = compare(scorer, url, server, size, max(5, repeats // size))
                ratios[f"http_overhead_{size}"] = remote.wall_s / direct.wall_s - 1
                ratios[f"http_cpu_overhead_{size}"] = remote.cpu_s / direct.cpu_s - 1
                print(
                    f"{size:9} | {direct.wall_s * 1e3:8.1f} ({direct.cpu_s * 1e3:.0f}) | "
                    f"{remote.wall_s * 1e3:8.1f} ({remote.cpu_s * 1e3:.0f}) | "
                    f"{ratios[f'http_overhead_{size}']:+.1%} "
                    f"({ratios[f'http_cpu_overhead_{size}']:+.1%})",
                    flush=True,
                )
            print("clients | requests/s | p50 ms | p99 ms | server CPU ms/request")
            speeds: dict[int, float] = {}
            for clients in NUM_CLIENTS:
                cpu_started_s = cpu_s(server)
                wall_s, latencies_s = asyncio.run(_load(url, clients, num_requests))
                speeds[clients] = len(latencies_s) / wall_s
                cuts = statistics.quantiles(latencies_s, n=100)
                print(
                    f"{clients:7} | {speeds[clients]:10.1f} | {cuts[49] * 1e3:6.0f} | "
                    f"{cuts[98] * 1e3:6.0f} | "
                    f"{(cpu_s(server) - cpu_started_s) / len(latencies_s) * 1e3:.0f}",
                    flush=True,
                )
                ratios[f"p99_over_p50_{clients}"] = cuts[98] / cuts[49]
            for clients in NUM_CLIENTS[1:]:
                ratios[f"throughput_{clients}_over_1"] = speeds[clients] / speeds[1]
    return ratios


def main() -> None:
    """Measure, and print the ratios as the last line."""
    parser = argparse.ArgumentParser(description="Measure HTTP overhead and load.")
    parser.add_argument("--repeats", type=int, default=60, help="calls for a single response")
    parser.add_argument("--requests", type=int, default=384, help="requests for each load")
    arguments = parser.parse_args()
    ratios = measure(arguments.repeats, arguments.requests)
    print(json.dumps({name: round(value, 4) for name, value in ratios.items()}))


if __name__ == "__main__":
    main()
