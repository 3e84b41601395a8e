"""What scoring packed groups gains over scoring with `transformers`, at equal model and thread.

    .venv/bin/python benchmarks/scoring.py [--server]

For prompts of about 200 tokens with 1, 4, 16 and 64 responses: the `Scorer`; `transformers` one
conversation at a time, as the released model's README does; `transformers` on one padded batch.
Response lengths are log-normal (median 150 tokens, as StackExchange's are spread), or all 100. All
three run in turns on the same groups, so that other load on the machine meets them alike; CPU
seconds are the figures to trust. `--server` adds benchmarks/scoring_server.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from worldpm.chat_template import CHATML_OWN, EncodedGroup, Encoder
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.scoring import Scorer

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
GROUP_SIZES = (1, 4, 16, 64)
PROMPT_TOKENS = 200
METHODS = ("scorer", "one by one", "padded batch")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Cost:
    """Median seconds of one group."""

    cpu_s: float
    wall_s: float


def write_checkpoint(folder: Path) -> None:
    """A random model of about 5 M parameters with one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in specials])
    model = PreferenceModel.from_architecture(ARCHITECTURE, seed=0, head_init="inverse_sqrt")
    save_portable(model, Encoder(tokenizer, CHATML_OWN), folder)


def random_group(
    encoder: Encoder, random: np.random.Generator, num_responses: int, *, is_spread: bool
) -> EncodedGroup:
    """Token ids of a prompt and responses; no two are alike."""
    lengths = np.full(num_responses, 100)
    if is_spread:
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


def num_slots(group: EncodedGroup) -> dict[str, int]:
    """Token positions that each method computes."""
    lengths = [len(ids) for ids in group.response_ids]
    prompt = len(group.prompt_ids)
    return {
        "scorer": prompt + sum(lengths),
        "one by one": sum(prompt + length for length in lengths),
        "padded batch": len(lengths) * (prompt + max(lengths)),
    }


def run(repeats: int) -> dict[str, float]:
    """Print the table; returns the ratios."""
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        write_checkpoint(checkpoint)
        scorer = Scorer.from_checkpoint(checkpoint)
        reference = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
        calls: dict[str, Callable[[EncodedGroup], list[float]]] = {
            "scorer": lambda group: scorer.score_encoded([group])[0],
            "one by one": lambda group: one_by_one(reference, group),
            "padded batch": lambda group: padded_batch(reference, group, scorer.encoder.pad_id),
        }
        print(f"{'lengths':8} {'responses':>9} {'method':13} {'slots':>7} {'CPU s':>8} "
              f"{'wall s':>8} {'× scorer':>9}")  # fmt: skip
        for is_spread in (True, False):
            for size in GROUP_SIZES:
                random = np.random.default_rng(size)
                groups = [
                    random_group(scorer.encoder, random, size, is_spread=is_spread)
                    for _ in range(repeats)
                ]
                measure(calls, groups[:1])
                costs = measure(calls, groups)
                kind = "spread" if is_spread else "equal"
                slots = [num_slots(group) for group in groups]
                for name in METHODS:
                    ratio = costs[name].cpu_s / costs["scorer"].cpu_s
                    median = statistics.median(slot[name] for slot in slots)
                    print(f"{kind:8} {size:9d} {name:13} {median:7.0f} {costs[name].cpu_s:8.3f} "
                          f"{costs[name].wall_s:8.3f} {ratio:9.2f}")  # fmt: skip
                    if name != "scorer":
                        key = f"scorer_vs_{name.replace(' ', '_')}_{kind}_{size}"
                        ratios[key] = round(ratio, 3)
    return ratios


def run_server_benchmark() -> dict[str, object]:
    """The last line of benchmarks/scoring_server.py."""
    script = Path(__file__).with_name("scoring_server.py")
    result = subprocess.run(
        [sys.executable, str(script)], check=True, stdout=subprocess.PIPE, text=True
    )
    print(result.stdout)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print, and end with one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--server", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios: dict[str, object] = dict(run(arguments.repeats))
    if arguments.server:
        ratios |= run_server_benchmark()
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
