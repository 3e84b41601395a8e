"""Time a suite against the same items scored pair by pair in padded batches.

The other side does what RewardBench's runner does: for every pair, both conversations in full, in
the order of the file, padded to the longest of a batch of 64, through the sequence classifier of
`transformers` with the same weights. A batch of 64 is large for a CPU: batches of 8 are timed too,
and the ratios are to the faster of both. All runs in one process, with the same threads, on the
same sample of items; the scores must agree. The last line is one JSON object with the ratios.

    python benchmarks/evaluation.py --data-dir ../shared/data/eval
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from eval.benchmark import Item
from eval.catalog import load_catalog
from eval.runner import ITEMS_PER_CHUNK, score_items
from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.scoring import Scorer

ROOT = Path(__file__).parent.parent
MAX_TOKENS = 2048
# What RewardBench takes by default, and what suits a CPU.
BATCH_SIZES = (64, 8)
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a side took."""

    wall_s: float
    cpu_s: float
    num_forward_tokens: int


def make_checkpoint(items: Sequence[Item], folder: Path, model: str) -> None:
    """A model of the given shape with random weights, its tokenizer trained on the items."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for item in items for text in item.responses), trainer)
    path = ROOT / "configs" / "model" / f"{model}.yaml"
    architecture = yaml.safe_load(path.read_text(encoding="utf-8"))
    del architecture["name"]
    architecture["vocab_size"] = tokenizer.get_vocab_size()
    network = PreferenceModel.from_architecture(architecture, seed=1, head_init="inverse_sqrt")
    save_portable(network, Encoder(tokenizer, CHATML_OWN), folder, max_tokens=MAX_TOKENS)


def measure(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """The function's value, wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = function()
    return value, time.perf_counter() - wall, time.process_time() - cpu


def score_once(items: Sequence[tuple[str, Item]], scorer: Scorer) -> dict[str, tuple[float, ...]]:
    """Our side: every response once, as `worldpm eval run` does it."""
    scores: dict[str, tuple[float, ...]] = {}
    for start in range(0, len(items), ITEMS_PER_CHUNK):
        chunk = items[start : start + ITEMS_PER_CHUNK]
        for (source, item), line in zip(chunk, score_items(chunk, scorer), strict=True):
            scores[f"{source}/{item.item_id}"] = line.scores
    return scores


def score_pairs(
    items: Sequence[tuple[str, Item]], network: Any, encoder: Encoder, batch_size: int
) -> tuple[dict[str, dict[int, float]], int]:
    """The other side: both conversations of every pair, padded; returns the tokens computed too."""
    pairs = [
        (f"{source}/{item.item_id}", item, pair) for source, item in items for pair in item.pairs
    ]
    scores: dict[str, dict[int, float]] = {}
    num_tokens = 0
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        for side in ("chosen", "rejected"):
            rows = [_conversation(encoder, item, getattr(pair, side)) for _, item, pair in batch]
            rewards, size = _padded_forward(network, rows, encoder.pad_id)
            num_tokens += size
            for (name, _, pair), reward in zip(batch, rewards, strict=True):
                scores.setdefault(name, {})[getattr(pair, side)] = reward
    return scores, num_tokens


def _conversation(encoder: Encoder, item: Item, response: int) -> list[int]:
    encoded = encoder.encode(item.prompt, [item.responses[response]], MAX_TOKENS)
    return encoded.prompt_ids + encoded.response_ids[0]


def _padded_forward(
    network: Any, rows: Sequence[list[int]], pad_id: int
) -> tuple[list[float], int]:
    longest = max(map(len, rows))
    ids_BT = torch.full((len(rows), longest), pad_id)
    mask_BT = torch.zeros((len(rows), longest), dtype=torch.int64)
    for index, row in enumerate(rows):
        ids_BT[index, : len(row)] = torch.tensor(row)
        mask_BT[index, : len(row)] = 1
    with torch.inference_mode():
        logits_B1 = network(input_ids=ids_BT, attention_mask=mask_BT).logits
    return logits_B1[:, 0].tolist(), ids_BT.numel()


def once_tokens(items: Sequence[tuple[str, Item]], encoder: Encoder) -> int:
    """Tokens of our side's forward passes (an upper bound: shared prompts count per item)."""
    total = 0
    for _, item in items:
        encoded = encoder.encode(item.prompt, item.responses, MAX_TOKENS)
        total += len(encoded.prompt_ids) + sum(map(len, encoded.response_ids))
    return total


def largest_difference(
    once: dict[str, tuple[float, ...]], pairs: dict[str, dict[int, float]]
) -> float:
    """Over all responses that both sides scored in full."""
    return max(
        abs(once[name][index] - score)
        for name, row in pairs.items()
        for index, score in row.items()
    )


def compare(items: Sequence[tuple[str, Item]], scorer: Scorer, network: Any) -> dict[str, Any]:
    """Both sides on the same items, ours first and last so that a slow phase hits both."""
    # Whatever a first call costs (kernels, caches) is paid before the clock runs.
    score_once(items[:2], scorer)
    score_pairs(items[:2], network, scorer.encoder, 8)
    once, wall_first, cpu_first = measure(lambda: score_once(items, scorer))
    padded: dict[int, Cost] = {}
    largest = 0.0
    for size in BATCH_SIZES:
        (pairs, tokens), wall, cpu = measure(
            lambda size=size: score_pairs(items, network, scorer.encoder, size)
        )
        padded[size] = Cost(wall, cpu, tokens)
        largest = max(largest, largest_difference(once, pairs))
    _, wall_last, cpu_last = measure(lambda: score_once(items, scorer))
    ours = Cost(
        (wall_first + wall_last) / 2, (cpu_first + cpu_last) / 2, once_tokens(items, scorer.encoder)
    )
    best = min(padded.values(), key=lambda cost: cost.cpu_s)
    return {
        "items": len(items),
        "pairs": sum(len(item.pairs) for _, item in items),
        **_columns("once", ours),
        **{
            key: v
            for size in BATCH_SIZES
            for key, v in _columns(f"padded {size}", padded[size]).items()
        },
        "wall_ratio": best.wall_s / ours.wall_s,
        "cpu_ratio": best.cpu_s / ours.cpu_s,
        "token_ratio": best.num_forward_tokens / ours.num_forward_tokens,
        "largest score difference": largest,
    }


def _columns(name: str, cost: Cost) -> dict[str, Any]:
    return {
        f"{name}: wall s": cost.wall_s,
        f"{name}: cpu s": cost.cpu_s,
        f"{name}: tokens": cost.num_forward_tokens,
    }


def sample(
    suite: str, data_dir: Path, every: int, names: Sequence[str] = ()
) -> Iterator[tuple[str, Item]]:
    """Every n-th item of a suite, without those whose text both sides would cut differently."""
    config = yaml.safe_load((ROOT / "configs" / "eval" / f"{suite}.yaml").read_text("utf-8"))
    catalog = load_catalog(names or config["benchmarks"], data_dir)
    yield from catalog.items_to_score()[::every]


def fits(encoder: Encoder) -> Callable[[tuple[str, Item]], bool]:
    """Whether an item needs no cut: a cut prompt depends on the longest response beside it."""

    def check(one: tuple[str, Item]) -> bool:
        return not encoder.encode(one[1].prompt, one[1].responses, MAX_TOKENS).is_cut

    return check


def main() -> None:
    """Print a table, and as the last line the ratios as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=ROOT.parent / "shared" / "data" / "eval")
    parser.add_argument("--model", default="tiny-3", help="a shape of configs/model")
    parser.add_argument("--every", type=int, default=6, help="take every n-th item")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    suites = {
        "rm-bench": list(sample("quick", arguments.data_dir, arguments.every, ["rm-bench"])),
        "quick": list(sample("quick", arguments.data_dir, arguments.every)),
    }
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "model"
        items = [item for suite in suites.values() for _, item in suite]
        make_checkpoint(items, checkpoint, arguments.model)
        scorer = Scorer.from_checkpoint(checkpoint)
        network = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
        results = {
            name: compare(list(filter(fits(scorer.encoder), suite)), scorer, network)
            for name, suite in suites.items()
        }
    print_table(results)
    print(
        json.dumps(
            {
                "model": arguments.model,
                "threads": torch.get_num_threads(),
                **{
                    f"{name}_{key}": round(result[key], 3)
                    for name, result in results.items()
                    for key in ("wall_ratio", "cpu_ratio", "token_ratio")
                },
            }
        )
    )


def print_table(results: dict[str, dict[str, Any]]) -> None:
    """All numbers, a column a suite."""
    print(f"{'':28}" + "".join(f"{name:>14}" for name in results))
    for key in next(iter(results.values())):
        values = [result[key] for result in results.values()]
        cells = [
            f"{v:>14,}" if isinstance(v, int) else f"{float(np.round(v, 7)):>14.4g}" for v in values
        ]
        print(f"{key:28}" + "".join(cells))


if __name__ == "__main__":
    main()
