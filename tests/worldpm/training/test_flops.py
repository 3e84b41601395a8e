"""Parameter counts against the published ones and against the built models; FLOPs by hand."""

from pathlib import Path

import pytest
import torch

from worldpm.errors import ConfigError
from worldpm.modeling.model_config import backbone_class, config_from_architecture
from worldpm.training.architecture import read_architecture
from worldpm.training.flops import attention_weight, count_parameters, training_flops

CONFIGS = Path(__file__).parents[3] / "configs/model"
# Parameters of the language models as published; with an output layer of their own, where not tied.
PUBLISHED = {
    "qwen2.5-0.5b": (494_032_768, True),
    "qwen2.5-1.5b": (1_543_714_304, True),
    "qwen2.5-3b": (3_085_938_688, True),
    "qwen2.5-7b": (7_615_616_512, False),
    "qwen2.5-14b": (14_770_033_664, False),
    "qwen2.5-32b": (32_763_876_352, False),
    "qwen2.5-72b": (72_706_203_648, False),
    "qwen3-0.6b": (596_049_920, True),
    "qwen3-1.7b": (1_720_574_976, True),
    "qwen3-4b": (4_022_468_096, True),
    "qwen3-8b": (8_190_735_360, False),
    "llama-3.2-1b": (1_235_814_400, True),
    "llama-3.2-3b": (3_212_749_824, True),
    "llama-3.1-8b": (8_030_261_248, False),
}
TINY = [f"tiny-{size}" for size in range(1, 7)]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_base_has_its_published_number_of_parameters(name):
    architecture = read_architecture(CONFIGS / f"{name}.yaml")
    published, is_tied = PUBLISHED[name]
    counts = count_parameters(architecture)
    output_layer = 0 if is_tied else counts.embedding
    assert counts.backbone + output_layer == published


@pytest.mark.parametrize("name", [*PUBLISHED, *TINY])
def test_the_count_is_that_of_the_built_backbone(name):
    architecture = read_architecture(CONFIGS / f"{name}.yaml", None if name in PUBLISHED else 512)
    counts = count_parameters(architecture)
    del architecture["name"]
    config = config_from_architecture(architecture)
    with torch.device("meta"):
        backbone = backbone_class(config)._from_config(config)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == counts.backbone


def test_the_72b_preference_model_has_71_460_503_552_parameters():
    counts = count_parameters(read_architecture(CONFIGS / "qwen2.5-72b.yaml"))
    assert counts.total == 71_460_503_552
    assert counts.head == 8192


def test_the_released_two_layer_head_is_counted():
    architecture = read_architecture(CONFIGS / "qwen2.5-72b.yaml")
    assert count_parameters(architecture, "mlp").head == 8192**2 + 8192 + 8192 + 1


def test_the_ladder_spans_two_orders_of_magnitude():
    sizes = [
        count_parameters(read_architecture(CONFIGS / f"{name}.yaml", 512)).non_embedding
        for name in TINY
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < 35_000
    assert sizes[-1] > 2_500_000


def test_the_72b_takes_six_flops_a_weight_and_token():
    architecture = read_architecture(CONFIGS / "qwen2.5-72b.yaml")
    flops = training_flops(architecture, num_tokens=1, num_attended=0)
    # Measured by torch's FLOP counter under FakeTensorMode: 4.213e11 a token.
    assert flops == pytest.approx(4.213e11, rel=0.005)


def test_attention_flops_of_one_layer_by_hand():
    architecture = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 10,
    }
    # A query-key pair: 2 × 64 for the product, 2 × 64 for the values; three times with backward.
    assert training_flops(architecture, num_tokens=0, num_attended=5) == 5 * 3 * (2 + 2) * 64
    layers = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128 + 2 * 64
    assert attention_weight(architecture) == pytest.approx(768 / (6 * layers))


def test_an_architecture_smaller_than_the_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="152000 tokens"):
        read_architecture(CONFIGS / "llama-3.2-1b.yaml", 152_000)
