"""A packed row gives the rewards and gradients of its conversations run one by one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from worldpm.errors import ConfigError, InputError
from worldpm.modeling import varlen_attention
from worldpm.modeling.attention import (
    AttentionBackend,
    attend_dense,
    attend_segments,
    default_backend,
    dense_mask,
)
from worldpm.modeling.flex_attention import attend_flex
from worldpm.modeling.packing_plan import QUERY_CHUNK, PackingPlan
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.varlen_attention import VarlenArrays, attend_varlen

FAMILIES = ("qwen2", "qwen3", "llama")

# (prompt length, response lengths); one response is longer than a chunk of queries.
GROUPS = [(7, [5, 1, QUERY_CHUNK + 9]), (1, [3]), (20, [4, 30])]


def pack(groups: list[tuple[int, list[int]]]) -> dict[str, torch.Tensor]:
    """The arrays of a packed row with random ids."""
    positions: list[int] = []
    segments: list[tuple[int, int, int, int]] = []
    ends: list[int] = []
    for prompt, responses in groups:
        start = len(positions)
        positions += range(prompt)
        segments.append((start, start + prompt, start, start))
        for length in responses:
            segments.append((len(positions), len(positions) + length, start, start + prompt))
            positions += range(prompt, prompt + length)
            ends.append(len(positions) - 1)
    generator = torch.Generator().manual_seed(0)
    return {
        "input_ids": torch.randint(0, 384, (len(positions),), generator=generator),
        "position_ids": torch.tensor(positions),
        "segments": torch.tensor(segments),
        "reward_index": torch.tensor(ends),
    }


def norm_in_own_precision(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    variance = hidden.pow(2).mean(-1, keepdim=True)
    return norm.weight * hidden * torch.rsqrt(variance + norm.variance_epsilon)


@pytest.fixture
def double_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms of transformers compute in fp32; without that cast fp64 stays fp64 throughout."""
    for norm in (Qwen2RMSNorm, Qwen3RMSNorm, LlamaRMSNorm):
        monkeypatch.setattr(norm, "forward", norm_in_own_precision)


def varlen_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    arrays: VarlenArrays,
    scale: float | None,
) -> torch.Tensor:
    """What a flash kernel does, sequence by sequence."""
    repeats = query.shape[1] // key.shape[1]
    outputs = []
    for (q0, q1), (k0, k1) in zip(
        pairwise(arrays.cumulative_queries.tolist()),
        pairwise(arrays.cumulative_keys.tolist()),
        strict=True,
    ):
        q = query[q0:q1].transpose(0, 1)
        k = key[k0:k1].transpose(0, 1).repeat_interleave(repeats, 0)
        v = value[k0:k1].transpose(0, 1).repeat_interleave(repeats, 0)
        assert q.shape[1] <= arrays.max_queries
        assert k.shape[1] <= arrays.max_keys
        mask = torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril(k1 - k0 - (q1 - q0))
        outputs.append(
            functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        )
    return torch.cat(outputs, 1).transpose(0, 1)


@pytest.fixture
def varlen_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen_attention, "choose_kernel", lambda _: varlen_reference)


def build(
    architecture: dict[str, Any], attention: AttentionBackend, dtype: torch.dtype
) -> PreferenceModel:
    model = PreferenceModel.from_architecture(
        architecture, seed=5, attention=attention, head_init="inverse_sqrt", dtype=dtype
    )
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # so that attention is far from uniform
    return model.to(dtype)


def one_by_one(model: PreferenceModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Rewards of each prompt and response as a sequence of its own, without our attention."""
    model.model.set_attn_implementation("sdpa")
    rewards = []
    for start, end, prefix_start, prefix_end in batch["segments"].tolist():
        if prefix_start == prefix_end:
            continue
        ids = torch.cat(
            [batch["input_ids"][prefix_start:prefix_end], batch["input_ids"][start:end]]
        )
        hidden = model.model(input_ids=ids[None], use_cache=False).last_hidden_state
        rewards.append(model.score(hidden[0, -1])[0])
    return torch.stack(rewards)


def rewards_and_gradients(
    model: PreferenceModel, forward: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    rewards = forward()
    (rewards * torch.linspace(-1, 1, len(rewards), dtype=rewards.dtype)).sum().backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return rewards.detach(), gradients


@pytest.mark.usefixtures("double_norms", "varlen_on_cpu")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["segments", "varlen", "dense"])
def test_rewards_and_gradients_equal_those_of_single_sequences_in_fp64(
    tiny_architecture: Callable[[str], dict[str, Any]], family: str, attention: AttentionBackend
) -> None:
    batch = pack(GROUPS)
    model = build(tiny_architecture(family), attention, torch.float64)
    rewards, gradients = rewards_and_gradients(model, lambda: model(**batch))
    expected, expected_gradients = rewards_and_gradients(model, lambda: one_by_one(model, batch))
    assert rewards.std() > 0.1
    torch.testing.assert_close(rewards, expected, atol=1e-12, rtol=1e-12)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        scale = expected_gradients[name].abs().max().item()
        torch.testing.assert_close(
            gradient, expected_gradients[name], atol=1e-12 * scale, rtol=0, msg=name
        )


@pytest.mark.usefixtures("varlen_on_cpu")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("attention", ["segments", "varlen", "flex", "dense"])
def test_rewards_equal_those_of_single_sequences_in_fp32(
    tiny_architecture: Callable[[str], dict[str, Any]], family: str, attention: AttentionBackend
) -> None:
    batch = pack(GROUPS)
    model = build(tiny_architecture(family), attention, torch.float32)
    with torch.no_grad():
        rewards = model(**batch)
        assert rewards.dtype == torch.float32
        torch.testing.assert_close(rewards, one_by_one(model, batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_equal_those_of_single_sequences_in_fp32(
    tiny_architecture: Callable[[str], dict[str, Any]], checkpointed: bool
) -> None:
    batch = pack(GROUPS)
    model = build(tiny_architecture("qwen2"), "segments", torch.float32).train()
    if checkpointed:
        model.gradient_checkpointing_enable()
    _, gradients = rewards_and_gradients(model, lambda: model(**batch))
    _, expected = rewards_and_gradients(model, lambda: one_by_one(model, batch))
    for name, gradient in gradients.items():
        error = (gradient - expected[name]).abs().max() / expected[name].abs().max()
        assert error < 1e-5, name


def test_the_last_layer_computes_reward_positions_only(
    tiny_architecture: Callable[[str], dict[str, Any]],
) -> None:
    batch = pack(GROUPS)
    model = build(tiny_architecture("qwen2"), "segments", torch.float32)
    num_tokens, num_rewards = len(batch["input_ids"]), len(batch["reward_index"])
    seen: list[int] = []
    for number in range(2):
        for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj"):
            projection = model.model.get_submodule(f"layers.{number}.{part}")
            projection.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[1]))
    expected = model(**batch)
    assert seen == [num_tokens] * 3 + [num_rewards] * 3
    # A plain call of the backbone, and one after a call that broke off, are whole.
    with pytest.raises(RuntimeError, match="out of DATA bounds"):
        model(**batch | {"reward_index": torch.tensor([num_tokens])})
    seen.clear()
    ids = torch.arange(9)[None]
    model.model.set_attn_implementation("sdpa")
    model.model(input_ids=ids, use_cache=False)
    assert seen == [9] * 6
    model.model.set_attn_implementation("worldpm_segments")
    torch.testing.assert_close(model(**batch), expected, atol=0, rtol=0)


def test_a_response_that_saw_another_would_score_differently(
    tiny_architecture: Callable[[str], dict[str, Any]],
) -> None:
    """The tests above can fail: positions and masks matter to this model."""
    batch = pack([(7, [5, 6])])
    model = build(tiny_architecture("qwen2"), "dense", torch.float32)
    honest = model(**batch)
    run_on = batch | {"segments": torch.tensor([[0, 7, 0, 0], [7, 18, 0, 7]])}
    assert (model(**run_on)[1] - honest[1]).abs() > 0.01
    not_restarted = batch | {"position_ids": torch.arange(18)}
    assert (model(**not_restarted)[1] - honest[1]).abs() > 0.01


groups_strategy = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 9), min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@given(groups=groups_strategy, num_key_heads=st.sampled_from([1, 2, 4]))
def test_all_backends_attend_alike(groups: list[tuple[int, list[int]]], num_key_heads: int) -> None:
    batch = pack(groups)
    plan = PackingPlan.from_segments(batch["segments"], len(batch["input_ids"]))
    generator = torch.Generator().manual_seed(1)
    query, key, value = (
        torch.randn(1, heads, plan.num_tokens, 8, generator=generator)
        for heads in (4, num_key_heads, num_key_heads)
    )
    expected = attend_dense(query, key, value, plan, 0.3)
    segments = attend_segments(query, key, value, plan, 0.3)
    torch.testing.assert_close(segments, expected, atol=1e-6, rtol=1e-5)
    ends = batch["reward_index"]
    some_rows = attend_segments(query, key, value, plan.at_rows(ends.flip(0)), 0.3)
    torch.testing.assert_close(some_rows[:, ends], expected[:, ends], atol=1e-6, rtol=1e-5)
    assert torch.count_nonzero(some_rows[0].any(-1).any(-1)) == len(ends)
    arrays = VarlenArrays.of(plan, torch.device("cpu"))
    varlen = varlen_reference(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1)[arrays.key_index_L],
        value[0].transpose(0, 1)[arrays.key_index_L],
        arrays,
        0.3,
    )
    torch.testing.assert_close(varlen[None], expected, atol=1e-6, rtol=1e-5)


@given(groups=groups_strategy)
def test_a_token_sees_its_prompt_and_its_own_past(groups: list[tuple[int, list[int]]]) -> None:
    batch = pack(groups)
    mask = dense_mask(
        PackingPlan.from_segments(batch["segments"], len(batch["input_ids"])), torch.device("cpu")
    )
    # A token at position p of its conversation sees exactly p + 1 tokens.
    assert mask.sum(1).tolist() == (batch["position_ids"] + 1).tolist()
    assert not mask.triu(1).any()


def test_flex_attends_like_dense_over_several_blocks() -> None:
    batch = pack([(100, [150, 90]), (30, [200])])
    plan = PackingPlan.from_segments(batch["segments"], len(batch["input_ids"]))
    query, key, value = (torch.randn(1, heads, plan.num_tokens, 16) for heads in (4, 2, 2))
    torch.testing.assert_close(
        attend_flex(query, key, value, plan, None),
        attend_dense(query, key, value, plan, None),
        atol=1e-5,
        rtol=1e-5,
    )


def test_sixteen_bits_on_a_gpu_use_the_flash_call() -> None:
    assert default_backend("cuda:0", torch.bfloat16) == "varlen"
    assert default_backend("auto", torch.bfloat16) == "varlen"
    assert default_backend("cuda", torch.float32) == "segments"
    assert default_backend("cpu", torch.bfloat16) == "segments"


def test_varlen_needs_a_gpu() -> None:
    plan = PackingPlan.from_segments(torch.tensor([[0, 2, 0, 0]]), 2)
    tensor = torch.zeros(1, 1, 2, 4)
    with pytest.raises(ConfigError, match="needs a GPU, found cpu: use segments"):
        attend_varlen(tensor, tensor, tensor, plan, None)


@pytest.mark.parametrize(
    ("segments", "message"),
    [
        ([[0, 3, 0, 0], [4, 6, 0, 3]], "should begin at 3"),
        ([[0, 3, 0, 0], [3, 6, 0, 2]], "is no prompt before it"),
        ([[0, 3, 0, 0], [3, 5, 0, 3]], "cover 5 of 6"),
    ],
)
def test_segments_that_do_not_tile_the_row_are_refused(
    segments: list[list[int]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        PackingPlan.from_segments(torch.tensor(segments), 6)


def test_a_head_is_fp32_also_under_autocast(
    tiny_architecture: Callable[[str], dict[str, Any]],
) -> None:
    batch = pack(GROUPS)
    model = build(tiny_architecture("qwen2"), "segments", torch.float32)
    seen: list[torch.dtype] = []
    assert isinstance(model.score, nn.Linear)
    model.score.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rewards = model(**batch)
    assert seen == [torch.float32]
    assert rewards.dtype == torch.float32
