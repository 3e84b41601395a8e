"""The plan against DeepSpeed's estimators, measured activations and the paper's run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.distributed import run_ranks
from worldpm.config import load_config
from worldpm.errors import ConfigError
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.training.architecture import read_architecture
from worldpm.training.config import TrainConfig
from worldpm.training.flops import count_parameters
from worldpm.training.memory import GIB, activation_bytes, state_memory
from worldpm.training.plan import make_plan, report_lines

ROOT = Path(__file__).parents[3]
SCRIPT = Path(__file__).parent / "on_ranks.py"


def load(name: str, *overrides: str) -> TrainConfig:
    return load_config(TrainConfig, ROOT / f"configs/train/{name}.yaml", overrides)


def architecture(name: str) -> dict:
    return read_architecture(ROOT / f"configs/model/{name}.yaml")


@pytest.mark.parametrize("name", ["qwen2.5-1.5b", "qwen2.5-72b", "llama-3.1-8b"])
@pytest.mark.parametrize("nodes", [1, 8])
def test_states_are_those_of_deepspeeds_estimators(name, nodes):
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as stage_3
    from deepspeed.runtime.zero.stage_1_and_2 import (
        estimate_zero2_model_states_mem_needs as stage_2,
    )

    shape = architecture(name)
    total = count_parameters(shape).total
    largest = shape["vocab_size"] * shape["hidden_size"]
    cluster = {"num_gpus_per_node": 8, "num_nodes": nodes}
    for offload, parameters in ((False, False), (True, False), (True, True)):
        options = {"offload_optimizer": offload, "offload_parameters": parameters}
        ours = state_memory(shape, stage=3, num_gpus=8 * nodes, **options)
        host, gpu, _ = stage_3(
            total, largest, cpu_offload=offload, cpu_offload_params=parameters, **cluster
        )
        assert ours.states == pytest.approx(gpu, rel=1e-6)
        if offload:
            assert ours.host_per_node == pytest.approx(host, rel=1e-6)
    ours = state_memory(shape, stage=2, num_gpus=8 * nodes)
    assert ours.states == pytest.approx(stage_2(total, cpu_offload=False, **cluster)[1], rel=1e-6)


def test_the_72b_on_64_gpus_needs_23_gib_of_states_and_fits():
    plan = make_plan(load("72b"))
    # The published estimator's figure for 8 nodes of 8 GPUs without offload: 23.4 GB.
    assert plan.memory.states / GIB == pytest.approx(23.4, abs=0.05)
    assert plan.fits
    assert plan.suggested_stage == 3


def test_the_papers_run_takes_nine_thousand_h100_hours_and_a_terabyte_a_checkpoint():
    plan = make_plan(load("72b"))
    assert plan.num_pairs == 15_000_000
    assert plan.num_steps == 1500
    # 6 N D for 30 G tokens at MFU 40 % is 9,190 hours with the embedding counted.
    assert plan.gpu_hours == pytest.approx(9190, rel=0.04)
    assert plan.checkpoint_bytes == pytest.approx(1.0e12, rel=0.01)


def test_on_one_node_the_72b_does_not_fit_and_the_plan_says_so():
    config = load("72b", "cluster.gpus=8")
    plan = make_plan(config)
    assert not plan.fits
    assert plan.suggested_stage is None
    assert any("DOES NOT FIT" in line for line in report_lines(config, plan))


def test_an_unknown_gpu_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="known: h100-80g"):
        make_plan(load("72b", "cluster.gpu=h1000"))


def saved_bytes(shape: dict, checkpointing: bool) -> tuple[int, int]:
    """Bytes that forward keeps for backward, counted storage by storage, and the row's tokens."""
    model = PreferenceModel.from_architecture(shape, seed=0, attention="segments")
    if checkpointing:
        model.gradient_checkpointing_enable()
    model.train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    prompt, response = 96, 128
    segments = [(0, prompt, 0, 0)]
    segments += [(prompt + k * response, prompt + (k + 1) * response, 0, prompt) for k in range(3)]
    num_tokens = segments[-1][1]
    ids = torch.zeros(num_tokens, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(ids, ids, torch.tensor(segments), torch.tensor([row[1] - 1 for row in segments[1:]]))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), num_tokens


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("family", "widths"),
    [("qwen2", (128, 352, 4, 2)), ("qwen3", (192, 512, 6, 2)), ("llama", (256, 704, 8, 8))],
)
def test_activations_are_predicted_within_six_percent(family, widths, checkpointing):
    width, mlp, heads, keys = widths
    shape = {
        "model_type": family, "hidden_size": width, "intermediate_size": mlp,
        "num_hidden_layers": 4, "num_attention_heads": heads, "num_key_value_heads": keys,
        "vocab_size": 64, "max_position_embeddings": 1024,
    }  # fmt: skip
    if family != "qwen2":
        shape["head_dim"] = width // heads
    measured, num_tokens = saved_bytes(shape, checkpointing)
    predicted = activation_bytes(
        shape, num_tokens=num_tokens, precision="float32", checkpointing=checkpointing
    )
    if checkpointing:
        # One layer in full stands there only while it is recomputed, after the forward pass.
        whole = activation_bytes(shape, num_tokens=num_tokens, precision="float32")
        shorter = {**shape, "num_hidden_layers": 3}
        predicted -= whole - activation_bytes(shorter, num_tokens=num_tokens, precision="float32")
    assert predicted == pytest.approx(measured, rel=0.06)


@pytest.fixture(scope="module")
def traced() -> dict:
    return run_ranks(SCRIPT, "trace_72b")[0]


def test_a_traced_step_of_two_72b_layers_is_cut_into_64_equal_parts(traced):
    assert traced["world_size"] == 64
    assert traced["num_params"] == 152064 * 8192 + 2 * 877_684_736 + 2 * 8192
    assert traced["num_local_params"] == pytest.approx(traced["num_params"] / 64, rel=1e-4)
    # Of the last layer the rewards' rows alone are computed, but for their keys and values.
    spared = 6 * traced["num_tokens"] * (3 * 8192 * 29568 + 2 * 8192 * 8192)
    expected = traced["formula_flops"] - spared
    assert traced["counted_flops"] == pytest.approx(expected, rel=0.03)


def test_a_traced_step_says_how_much_stands_at_once(traced):
    # bf16 weights, fp32 master weights and their gradient buffer; Adam's moments come in the step.
    assert traced["built_bytes"] == pytest.approx(10 * traced["num_local_params"], rel=0.1)
    # The embedding and its gradient, whole, are the largest of a model of two layers.
    embedding = 2 * 2 * 152064 * 8192
    assert embedding < traced["peak_bytes"] < 2 * embedding
