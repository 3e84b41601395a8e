"""A model folder in several files is read into ZeRO-3's partitions: no rank holds all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.distributed import run_ranks
from worldpm.chat_template import Encoder
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel

SCRIPT = Path(__file__).parent / "on_ranks.py"
# 24 M weights: large beside what the interpreter and a gathered layer come to.
ARCHITECTURE = {
    "model_type": "qwen2",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rope_theta": 10000.0,
}
SHARD_BYTES = 4_000_000


@pytest.fixture(scope="module")
def folder(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preference model in bf16, written as many safetensors files."""
    encoder = Encoder.from_folder(data_set / "tokenizer")
    vocabulary = encoder.tokenizer.get_vocab_size(with_added_tokens=True)
    model = PreferenceModel.from_architecture(
        {**ARCHITECTURE, "vocab_size": vocabulary}, seed=3, dtype=torch.bfloat16
    )
    target = tmp_path_factory.mktemp("sharded") / "model"
    save_portable(model, encoder, target, shard_bytes=SHARD_BYTES)
    assert len(list(target.glob("*.safetensors"))) >= 8
    return target


def test_bf16_weights_arrive_exactly_and_no_rank_holds_the_whole(folder, data_set, tmp_path):
    found = run_ranks(
        SCRIPT, "load_in_parts", 2, data=str(data_set), run=str(tmp_path / "run"),
        overrides=[
            f"model.init_from={folder}", "model.architecture=null",
            "model.precision=bfloat16", "deepspeed.stage=3",
        ],
    )  # fmt: skip
    whole = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    for rank in found:
        assert rank["types"] == ["torch.bfloat16"]
        assert rank["num_local_params"] == pytest.approx(rank["num_params"] / 2, rel=1e-3)
        # Its half, and one layer (an eighth) that is gathered while it is read.
        assert 0.5 * whole < rank["peak_growth_bytes"] < 0.75 * whole
    assert found[0]["different"] == []
