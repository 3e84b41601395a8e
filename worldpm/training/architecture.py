"""Architecture files: what a backbone looks like, as the keys of its Hugging Face configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from worldpm.artifacts import read_json
from worldpm.config import ConfigModel, load_config
from worldpm.errors import CheckpointError, ConfigError
from worldpm.training.config import ModelConfig


class ArchitectureConfig(ConfigModel):
    """`configs/model/*.yaml`: a decoder's shape; `vocab_size` null takes the tokenizer's."""

    name: str
    model_type: Literal["qwen2", "qwen3", "llama"]
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int | None = None
    vocab_size: int | None = None
    max_position_embeddings: int = 32_768
    rope_theta: float = 1_000_000.0
    rope_scaling: dict[str, float | int | str] | None = None
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02


def read_architecture(path: Path, vocab_size: int | None = None) -> dict[str, Any]:
    """Read an architecture file as keys of a Hugging Face configuration.

    `vocab_size` is the tokenizer's; it fills a file that leaves the size open.

    Raises:
        ConfigError: the file is wrong, or smaller than the tokenizer's vocabulary.
    """
    values = load_config(ArchitectureConfig, path).model_dump(mode="json", exclude_none=True)
    if vocab_size is not None:
        if values.get("vocab_size", vocab_size) < vocab_size:
            raise ConfigError(
                f"{path}: vocab_size is {values['vocab_size']}, the tokenizer of the data has "
                f"{vocab_size} tokens: they do not belong together"
            )
        values.setdefault("vocab_size", vocab_size)
    return values


def describe_model(model: ModelConfig, vocab_size: int | None = None) -> dict[str, Any]:
    """The architecture of a run's model, from its YAML file or its folder's `config.json`.

    Raises:
        ConfigError: the architecture file is wrong.
        CheckpointError: the folder holds no configuration.
    """
    if model.architecture is not None:
        return read_architecture(model.architecture, vocab_size)
    assert model.init_from is not None, "the configuration was checked"
    path = model.init_from / "config.json"
    if not path.is_file():
        raise CheckpointError(f"model.init_from: {path} does not exist: name a model folder")
    return {"name": model.init_from.name, **read_json(path)}
