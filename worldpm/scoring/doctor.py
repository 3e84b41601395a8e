"""Checks of an installation and of a checkpoint: each says what it found."""

from __future__ import annotations

import importlib
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from worldpm.chat_template import Encoder
from worldpm.errors import CheckpointError, WorldPMError
from worldpm.modeling.attention import attend_dense, attend_segments
from worldpm.modeling.checkpoint_card import CheckpointCard, SelfTest
from worldpm.modeling.loading import inspect_checkpoint
from worldpm.modeling.model_config import config_from_folder, read_config_json
from worldpm.modeling.packing_plan import PackingPlan
from worldpm.modeling.self_test import CONVERSATIONS
from worldpm.schema import Group, Message
from worldpm.scoring.scorer import Scorer

REQUIRED = (
    "torch",
    "deepspeed",
    "transformers",
    "tokenizers",
    "safetensors",
    "pyarrow",
    "duckdb",
    "numpy",
    "scipy",
    "matplotlib",
    "fastapi",
)

# fp32 on another machine or number of threads; relative to scores above 1.
FLOAT32_TOLERANCE = 1e-3
# Eight bits of mantissa in every layer.
BFLOAT16_TOLERANCE = 0.15
# The authors computed in bf16.
PUBLISHED_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `ok` is False where something must be mended."""

    name: str
    ok: bool
    detail: str


def run_check(name: str, check: Callable[[], str]) -> Check:
    """Run a check that returns what it found, or raises what is wrong."""
    try:
        return Check(name, ok=True, detail=check())
    except (WorldPMError, OSError, ImportError, ValueError, AssertionError) as exc:
        return Check(name, ok=False, detail=str(exc) or type(exc).__name__)


def check_installation() -> Iterator[Check]:
    """Python, packages, the packed attention on this machine, GPUs, a writable place."""
    yield run_check("python", _check_python)
    for package in REQUIRED:
        yield run_check(package, lambda package=package: _check_package(package))
    yield run_check("packed attention", _check_attention)
    yield run_check("temporary files", _check_temporary)
    yield run_check("gpu", _describe_gpu)


def check_checkpoint(
    folder: Path, *, device: str = "cpu", dtype: str = "float32"
) -> Iterator[Check]:
    """Files, tensors, template, configuration fields, scores."""
    yield run_check("tensors", lambda: _check_tensors(folder))
    yield run_check("tokenizer and template", lambda: _check_encoder(folder))
    yield run_check("configuration", lambda: _check_config(folder))
    yield run_check("template in transformers", lambda: _check_rendering(folder))
    yield run_check("scores", lambda: _check_scores(folder, device, dtype))


def _check_python() -> str:
    assert (3, 11) <= sys.version_info[:2] <= (3, 12), (
        f"Python {platform.python_version()}: 3.11 or 3.12 is needed"
    )
    return platform.python_version()


def _check_package(package: str) -> str:
    if package != "deepspeed":  # importing it takes seconds and may look for a compiler
        importlib.import_module(package)
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError as exc:
        raise ImportError(f"{package} is not installed: run make setup") from exc


def _check_attention() -> str:
    segments = torch.tensor([[0, 5, 0, 0], [5, 9, 0, 5], [9, 16, 0, 5]])
    plan = PackingPlan.from_segments(segments, 16)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 4, 16, 8, generator=generator) for _ in range(3))
    difference = attend_segments(query, key, value, plan, None) - attend_dense(
        query, key, value, plan, None
    )
    error = difference.abs().max().item()
    assert error < 1e-5, f"segments and dense attention differ by {error:.2e}"
    return f"segments and dense agree to {error:.0e}"


def _check_temporary() -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "probe").write_text("x", encoding="utf-8")
        return str(Path(folder).parent)


def _describe_gpu() -> str:
    if not torch.cuda.is_available():
        return "none: training and scoring run on the CPU"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names)


def _check_tensors(folder: Path) -> str:
    layout = inspect_checkpoint(folder, config_from_folder(folder))
    if layout.head is None:
        raise CheckpointError("a language model without score head: the tensor score.weight")
    dropped = f"; left out: {', '.join(layout.dropped)}" if layout.dropped else ""
    return f"all accounted for, a {layout.head} head{dropped}"


def _check_encoder(folder: Path) -> str:
    card, encoder = CheckpointCard.read(folder), Encoder.from_folder(folder)
    card.check_encoder(encoder, folder)
    return f"template {card.template_name}, the reward at {card.reward_token or 'its last token'!r}"


def _check_config(folder: Path) -> str:
    values, card = read_config_json(folder), CheckpointCard.read(folder)
    rope = values.get("rope_parameters") or {}
    expected: dict[str, Any] = {
        "problem_type": "regression",
        "id2label": {"0": "LABEL_0"},
        "pad_token_id": card.pad_id,
        "rope_theta": rope.get("rope_theta"),
        "torch_dtype": values.get("dtype"),
    }
    for key, value in expected.items():
        if value is None or values.get(key) != value:
            raise CheckpointError(f"config.json: {key} is {values.get(key)!r}, expected {value!r}")
    if card.pad_id == card.reward_id:
        raise CheckpointError("config.json: the pad token is the reward token")
    return f"{values['architectures'][0]}, fields of transformers 4 and 5"


def _check_rendering(folder: Path) -> str:
    from transformers import AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), Encoder.from_folder(folder)
    _check_cutting(tokenizer, encoder)
    num_checked = 0
    for prompt, response in CONVERSATIONS:
        texts = [response, *(message.content for message in prompt)]
        if any("<|" in text for text in texts):
            continue  # transformers reads special tokens in text as special: ours does not
        messages = [{"role": turn.role, "content": turn.content} for turn in prompt]
        messages.append({"role": "assistant", "content": response})
        ids = tokenizer.apply_chat_template(messages, return_dict=False)
        encoded = encoder.encode(prompt, [response])
        if ids != encoded.prompt_ids + encoded.response_ids[0]:
            raise CheckpointError(
                f"{type(tokenizer).__name__} with its chat_template renders other ids than the "
                f"encoder for {prompt[-1].content!r}: consumers would score other tokens"
            )
        num_checked += 1
    return f"{num_checked} conversations have the encoder's ids"


def check_scores(scorer: Scorer, dtype: str) -> str:
    """Hold a loaded model to the scores its checkpoint records, and say how close it is.

    Raises:
        CheckpointError: a score differs, with both values.
    """
    card = scorer.card
    if not card.self_test and not card.published_scores:
        scorer.score([Group("probe", (Message("user", "Hello"),), ("Hi",))])
        return "none recorded: only a forward pass was tried (doctor --record writes them)"
    limit = FLOAT32_TOLERANCE if dtype == "float32" else BFLOAT16_TOLERANCE
    worst = _compare(scorer, card.self_test, limit)
    text = f"{len(card.self_test)} recorded scores hold to {worst:.1e}"
    if card.published_scores:
        worst = _compare(scorer, card.published_scores, PUBLISHED_TOLERANCE)
        text += f"; {len(card.published_scores)} published scores hold to {worst:.1e}"
    return text


def _check_cutting(tokenizer: Any, encoder: Encoder) -> None:
    # For Qwen2 models AutoTokenizer of transformers 5 puts its own rules over tokenizer.json's.
    theirs = json.loads(tokenizer.backend_tokenizer.to_str())
    ours = json.loads(encoder.tokenizer.to_str())
    for part in ("normalizer", "pre_tokenizer"):
        if _without_offsets(theirs[part]) != _without_offsets(ours[part]):
            raise CheckpointError(
                f"{type(tokenizer).__name__} replaces the {part} of tokenizer.json: consumers "
                "would score other tokens; train the tokenizer with that family's own"
            )


def _without_offsets(value: Any) -> Any:
    # Offsets into the text change no ids.
    if isinstance(value, dict):
        return {key: _without_offsets(v) for key, v in value.items() if key != "trim_offsets"}
    return [_without_offsets(item) for item in value] if isinstance(value, list) else value


def _check_scores(folder: Path, device: str, dtype: str) -> str:
    return check_scores(Scorer.from_checkpoint(folder, device=device, dtype=dtype), dtype)


def _compare(scorer: Scorer, tests: tuple[SelfTest, ...], limit: float) -> float:
    groups = [Group(str(index), test.prompt, (test.response,)) for index, test in enumerate(tests)]
    scale = max([1.0, *(abs(test.score) for test in tests)])
    worst = 0.0
    for test, result in zip(tests, scorer.score(groups), strict=True):
        difference = abs(result.scores[0] - test.score)
        if difference > limit * scale:
            raise CheckpointError(
                f"{test.prompt[-1].content!r} → {test.response[:40]!r} scores "
                f"{result.scores[0]:.6f}, expected {test.score:.6f}"
            )
        worst = max(worst, difference)
    return worst
