"""What scoring packed groups gains over scoring with `transformers`, at equal model and thread.

    .venv/bin/python benchmarks/scoring.py [--no-server]

For prompts of 200 tokens with 1, 4, 16 and 64 responses: the `Scorer`; `transformers` one
conversation at a time, as the released model's README does; `transformers` on one padded batch.
Response lengths are log-normal (median 150 tokens, as StackExchange's are spread), or all 100. All
three run in turns on the same groups, so that other load on the machine meets them alike; CPU
seconds are the figures to trust. *work* is a method's multiplications over the scorer's: what would
be gained if every multiplication took the same time. At last the server over HTTP against the
scorer, from benchmarks/scoring_server.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from measure import print_ratios, print_table
from scoring_server import measure_server, write_checkpoint
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from worldpm.chat_template import EncodedGroup, Encoder
from worldpm.scoring import Scorer
from worldpm.scoring.heap import keep_freed_memory

ARCHITECTURE = {
    "model_type": "qwen2",
    "vocab_size": 320,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
HEAD_WIDTH = 64
GROUP_SIZES = (1, 4, 16, 64)
PROMPT_TOKENS = 200
METHODS = ("scorer", "one by one", "padded batch")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Cost:
    """Median seconds of one group."""

    cpu_s: float
    wall_s: float


def random_group(
    encoder: Encoder, random: np.random.Generator, num_responses: int, length: int | None
) -> EncodedGroup:
    """Token ids of a prompt and responses, no two alike; spread lengths where none is given."""
    lengths = np.full(num_responses, length or 0)
    if length is None:
        lengths = np.clip(random.lognormal(np.log(150), 0.7, num_responses), 10, 1500).astype(int)
    return EncodedGroup(
        random.integers(0, 256, PROMPT_TOKENS).tolist(),
        [[*random.integers(0, 256, length - 1).tolist(), encoder.reward_id] for length in lengths],
        0,
        [0] * num_responses,
    )


def one_by_one(model: PreTrainedModel, group: EncodedGroup) -> list[float]:
    """A forward pass a conversation, nothing padded."""
    with torch.inference_mode():
        return [
            model(torch.tensor([group.prompt_ids + ids])).logits.item()
            for ids in group.response_ids
        ]


def padded_batch(model: PreTrainedModel, group: EncodedGroup, pad_id: int) -> list[float]:
    """One forward pass over all conversations, padded at the right to the longest."""
    rows = [group.prompt_ids + ids for ids in group.response_ids]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_id] * (width - len(row)) for row in rows])
    with torch.inference_mode():
        return model(ids, attention_mask=(ids != pad_id).long()).logits[:, 0].tolist()


def measure(
    calls: dict[str, Callable[[EncodedGroup], list[float]]], groups: Sequence[EncodedGroup]
) -> dict[str, Cost]:
    """Median cost of every method; all score every group, in turns."""
    costs: dict[str, list[Cost]] = {name: [] for name in calls}
    for group in groups:
        scores: dict[str, list[float]] = {}
        for name, call in calls.items():
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            scores[name] = call(group)
            cost = Cost(time.process_time() - cpu_s, time.perf_counter() - wall_s)
            costs[name].append(cost)
        for other in scores.values():
            assert np.allclose(scores["scorer"], other, atol=TOLERANCE)
    return {
        name: Cost(
            statistics.median(cost.cpu_s for cost in measured),
            statistics.median(cost.wall_s for cost in measured),
        )
        for name, measured in costs.items()
    }


def num_multiplications(group: EncodedGroup) -> dict[str, float]:
    """Multiplications that each method does: in linear layers and in attention."""
    width, ffn = ARCHITECTURE["hidden_size"], ARCHITECTURE["intermediate_size"]
    key_values = 2 * width * ARCHITECTURE["num_key_value_heads"] * HEAD_WIDTH
    rest = 2 * width * width + 3 * width * ffn
    layers = ARCHITECTURE["num_hidden_layers"]
    prompt, lengths = len(group.prompt_ids), [len(ids) for ids in group.response_ids]

    def whole(num_rows: int, length: int) -> float:
        # Masked scores are computed too.
        return num_rows * length * (key_values + rest + 2 * width * length)

    tokens, ends = prompt + sum(lengths), len(lengths)
    pairs = prompt**2 + sum(length * (prompt + length) for length in lengths)
    one_layer = tokens * (key_values + rest) + 2 * width * pairs
    # The last one: keys and values of all tokens, the rest of reward positions.
    last_pairs = sum(prompt + length for length in lengths)
    last = tokens * key_values + ends * rest + 2 * width * last_pairs
    return {
        "scorer": (layers - 1) * one_layer + last,
        "one by one": layers * sum(whole(1, prompt + length) for length in lengths),
        "padded batch": layers * whole(ends, prompt + max(lengths)),
    }


def run(scorer: Scorer, reference: PreTrainedModel, repeats: int, length: int) -> dict[str, float]:
    """Print the table; returns the ratios."""
    ratios: dict[str, float] = {}
    calls: dict[str, Callable[[EncodedGroup], list[float]]] = {
        "scorer": lambda group: scorer.score_encoded([group])[0],
        "one by one": lambda group: one_by_one(reference, group),
        "padded batch": lambda group: padded_batch(reference, group, scorer.encoder.pad_id),
    }
    rows: list[list[object]] = []
    for kind in ("spread", "equal"):
        for size in GROUP_SIZES:
            random = np.random.default_rng(size)
            groups = [
                random_group(scorer.encoder, random, size, None if kind == "spread" else length)
                for _ in range(repeats)
            ]
            measure(calls, groups[:1])
            costs = measure(calls, groups)
            work = [num_multiplications(group) for group in groups]
            for name in METHODS:
                ratio = costs[name].cpu_s / costs["scorer"].cpu_s
                bound = statistics.median(one[name] / one["scorer"] for one in work)
                rows.append([kind, size, name, f"{costs[name].cpu_s:.3f}",
                             f"{costs[name].wall_s:.3f}", bound, ratio])  # fmt: skip
                if name != "scorer":
                    key = f"scorer_vs_{name.replace(' ', '_')}_{kind}_{size}"
                    ratios[key] = ratio
    head = ["lengths", "responses", "method", "CPU s", "wall s", "work", "CPU × scorer"]
    print_table(head, rows)
    return ratios


def main() -> None:
    """Measure, print, and end with one JSON object."""
    parser = argparse.ArgumentParser(description="Measure scoring against transformers and HTTP.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--length", type=int, default=100, help="tokens of equal responses")
    parser.add_argument("--no-server", action="store_true", help="leave the HTTP server out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # As `worldpm score` does; it helps all three methods.
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        write_checkpoint(checkpoint, ARCHITECTURE, "inverse_sqrt")
        reference = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
        # Nothing is generated: keeping keys and values would only cost the reference time.
        reference.config.use_cache = False
        ratios = run(
            Scorer.from_checkpoint(checkpoint), reference, arguments.repeats, arguments.length
        )
    if not arguments.no_server:
        ratios |= measure_server(repeats=20, num_requests=None)
    print_ratios(**ratios)


if __name__ == "__main__":
    main()
