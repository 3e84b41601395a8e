"""Portable checkpoints score alike in transformers 4.57, transformers 5 and our own scorer.

Builds a second virtual environment (about 1 GB, once), so it is no part of the test suite:
`python tests/compat/run.py [--environment DIR]`. Exit code 0 only if every score agrees.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import torch

from data_pipeline.stages.tokenizer import train_tokenizer
from worldpm.chat_template import CHATML_OWN, Encoder
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.schema import Group, Message
from worldpm.scoring import Scorer

OLD_PACKAGES = ("torch==2.13.0", "transformers==4.57.6", "numpy==2.4.6", "jinja2==3.1.6")
TOLERANCE = 1e-5
SCRIPT = Path(__file__).parent / "score_with_transformers.py"

CONVERSATIONS = [
    [("user", "What is the capital of France?"), ("assistant", "Paris.")],
    [("system", "Be brief."), ("user", "Why?"), ("assistant", "")],
    [("user", "Add 1 and 2."), ("assistant", "3"), ("user", "Twice that?"), ("assistant", "6")],
    [("user", "Übersetze: 猫 🐈"), ("assistant", "Katze " * 60)],
]
LLAMA_3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def architectures() -> dict[str, dict[str, Any]]:
    """Small models of every family; angles of the positions differ from the defaults."""
    common = {
        "vocab_size": 384,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return {
        "qwen2": common | {"model_type": "qwen2", "rope_theta": 1e6},
        "qwen3": common | {"model_type": "qwen3", "rope_theta": 1e6, "head_dim": 32},
        "llama": common | {"model_type": "llama", "rope_theta": 5e5},
        "llama-3-rope": common | {"model_type": "llama", "rope_parameters": LLAMA_3_ROPE},
    }


def make_encoder() -> Encoder:
    """A tokenizer as the data build trains it, with the words that AutoTokenizer gives Qwen2."""
    texts = [text for conversation in CONVERSATIONS for _, text in conversation]
    return Encoder(train_tokenizer(iter(texts * 20), 384), CHATML_OWN)


def write_checkpoints(root: Path) -> dict[str, list[float]]:
    """Write the checkpoints and conversations; returns our own scores."""
    encoder = make_encoder()
    turns = [[{"role": role, "content": text} for role, text in c] for c in CONVERSATIONS]
    (root / "conversations.json").write_text(json.dumps(turns), encoding="utf-8")
    scores: dict[str, list[float]] = {}
    for name, architecture in architectures().items():
        model = PreferenceModel.from_architecture(architecture, seed=1, head_init="inverse_sqrt")
        with torch.no_grad():
            for parameter in model.model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4)  # attention far from uniform: positions matter
        save_portable(model, encoder, root / name)
        scores[name] = own_scores(root / name)
    return scores


def own_scores(folder: Path) -> list[float]:
    """What our scorer gives."""
    groups = [
        Group(str(index), tuple(Message(role, text) for role, text in turns[:-1]), (turns[-1][1],))
        for index, turns in enumerate(CONVERSATIONS)
    ]
    return [result.scores[0] for result in Scorer.from_checkpoint(folder).score(groups)]


def build_environment(folder: Path) -> Path:
    """The Python of an environment with transformers 4.57; built where it is missing."""
    python = folder / "bin" / "python"
    marker = folder / "complete"
    if not marker.is_file():
        venv.create(folder, with_pip=True, clear=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *OLD_PACKAGES]
        subprocess.run(command, check=True)
        marker.write_text("\n".join(OLD_PACKAGES), encoding="utf-8")
    return python


def score_with(python: Path | str, root: Path) -> dict[str, Any]:
    """Run the consumer's script under an interpreter."""
    result = subprocess.run(
        [str(python), str(SCRIPT), str(root)], check=True, capture_output=True, text=True
    )
    return json.loads(result.stdout.splitlines()[-1])


def main() -> int:
    """Compare and print a line a checkpoint and version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", type=Path, default=Path(".venv-compat"))
    arguments = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        own = write_checkpoints(Path(folder))
        for python in (sys.executable, build_environment(arguments.environment)):
            found = score_with(python, Path(folder))
            for name, scores in found["scores"].items():
                pairs = zip(scores, own[name], strict=True)
                worst = max(abs(theirs - ours) for theirs, ours in pairs)
                failed += worst > TOLERANCE
                verdict = "ok" if worst <= TOLERANCE else "DIFFERS"
                print(f"{verdict:8} transformers {found['transformers']:8} {name:14} {worst:.1e}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
