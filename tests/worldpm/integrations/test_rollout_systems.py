"""TRL, OpenRLHF, verl, EasyR1 and ROLL: each is given what its contract gives, and answered so."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from worldpm.errors import InputError, ServerError
from worldpm.group_files import write_group_file
from worldpm.integrations import easyr1, openrlhf, trl, verl
from worldpm.rewards.base import Sample
from worldpm.schema import Group, Message

HI = (Message("user", "hi"),)
CHAT = [{"role": "user", "content": "hi"}]


def load_from_path(module) -> object:
    """As OpenRLHF, EasyR1 and verl do: from the file, without a place in sys.modules."""
    spec = importlib.util.spec_from_file_location("custom_module", module.__file__)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


# TRL


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("prompt", "completion"),
    [(CHAT, [{"role": "assistant", "content": "yes"}]), ("hi", "yes")],
    ids=["conversation", "text"],
)
def test_trl_gets_numbers_and_none_for_abstentions(reward, is_async, prompt, completion):
    unknown = "?" if isinstance(completion, str) else [{"role": "assistant", "content": "?"}]
    make = trl.async_reward_function if is_async else trl.reward_function
    function = make("http://server", reference_column="answer", domain_column="site")
    assert inspect.iscoroutinefunction(function) is is_async
    assert function.__name__ == "worldpm"
    metrics: dict[str, float] = {}
    answer = function(
        prompts=[prompt, prompt],
        completions=[completion, unknown],
        completion_ids=[[1], [2]],
        answer=["a", None],
        site=["s", "s"],
        trainer_state=None,
        log_extra=lambda *_: None,
        log_metric=metrics.__setitem__,
    )
    assert (asyncio.run(answer) if is_async else answer) == [3.0, None]
    assert reward.samples == [Sample(HI, "yes", "a", "s"), Sample(HI, "?", None, "s")]
    assert metrics == {"worldpm/abstained": 0.5}


def test_trl_earlier_turns_of_a_completion_belong_to_the_prompt(reward):
    completion = [
        {"role": "assistant", "content": "let me see"},
        {"role": "user", "content": "well?"},
        {"role": "assistant", "content": "42"},
    ]
    trl.reward_function("http://server")(prompts=[CHAT], completions=[completion])
    [sample] = reward.samples
    assert sample.prompt == (*HI, Message("assistant", "let me see"), Message("user", "well?"))
    assert sample.response == "42"


def test_trl_online_dpo_is_never_given_none(reward):
    function = trl.online_dpo_reward_function("http://server")
    assert function(prompts=["hi"], completions=["yes"], trainer_state=None) == [3.0]
    with pytest.raises(ServerError, match="OnlineDPOTrainer: the reward of sample 1 abstains"):
        function(prompts=["hi", "hi"], completions=["yes", "?"])
    function = trl.online_dpo_reward_function("http://server", on_abstain=-1)
    assert function(prompts=["hi", "hi"], completions=["yes", "?"]) == [3.0, -1.0]


def test_trl_a_missing_column_is_named(reward):
    function = trl.reward_function("http://server", reference_column="answer")
    with pytest.raises(InputError, match="no column 'answer'"):
        function(prompts=["a"], completions=["b"], other=[1])


# OpenRLHF


def test_openrlhf_loads_the_file_and_sends_policy_text(reward):
    function = load_from_path(openrlhf).reward_func
    query = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nparis<|im_end|>"
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    answer = function([query], [prompt], ["lab"])
    assert answer["rewards"] == [5.0]
    assert 0 < answer["scores"][0] < 1
    assert all(len(values) == 1 for values in answer["extra_logs"].values())
    assert reward.samples == [Sample(HI, "paris", "lab")]
    assert reward.names == ["http://from-the-environment"]


def test_openrlhf_an_abstention_needs_a_chosen_number(reward, monkeypatch):
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    with pytest.raises(ServerError, match="abstains"):
        openrlhf.reward_func([prompt + "?<|im_end|>"], [prompt], [None])
    monkeypatch.setenv("WORLDPM_ON_ABSTAIN", "-3")
    answer = openrlhf.reward_func([prompt + "?<|im_end|>"], [prompt], [None])
    assert answer["rewards"] == [-3.0]
    assert answer["extra_logs"]["worldpm_abstained"] == [1.0]


# verl


def test_verl_calls_the_function_with_the_prompt_in_extra_info(reward):
    function = load_from_path(verl).compute_score
    assert inspect.iscoroutinefunction(function)
    with_kwargs = partial(function, source="http://server", on_abstain=0.5)
    call = partial(with_kwargs, data_source="site", ground_truth="4")
    extra_info = {"prompt": np.array(CHAT, dtype=object), "num_turns": None}
    result = asyncio.run(call(solution_str="yes", extra_info=extra_info, reward_router_address="x"))
    assert result == {"score": 3.0, "abstained": 0.0}
    assert reward.samples == [Sample(HI, "yes", "4", "site")]
    abstained = asyncio.run(call(solution_str="?", extra_info=extra_info))
    assert abstained == {"score": 0.5, "abstained": 1.0}
    with pytest.raises(InputError, match="raw_prompt, prompt, messages"):
        asyncio.run(call(solution_str="a", extra_info={}))


class TokenizerDouble:
    """One id a letter; 0 is padding."""

    def decode(self, ids, skip_special_tokens: bool) -> str:
        return "".join(chr(int(token)) for token in ids if int(token) or not skip_special_tokens)

    def batch_decode(self, rows, skip_special_tokens: bool) -> list[str]:
        return [
            self.decode(row, skip_special_tokens=True)
            if skip_special_tokens
            else self.decode(row, skip_special_tokens=False).replace("\0", "<|endoftext|>")
            for row in rows
        ]


def letters(text: str, length: int, *, left: bool = False) -> list[int]:
    padding = [0] * (length - len(text))
    ids = [ord(letter) for letter in text]
    return padding + ids if left else ids + padding


class BatchDouble:
    """The parts of verl's DataProto that a reward manager uses."""

    def __init__(self, items: list[SimpleNamespace]) -> None:
        self._items = items

    def __getitem__(self, key):
        return BatchDouble(self._items[key]) if isinstance(key, slice) else self._items[key]


@pytest.fixture
def verl_manager(with_modules):
    registered: dict[str, type] = {}

    def register(name):
        return lambda cls: registered.setdefault(name, cls)

    class RewardManagerBase:
        def __init__(self, config, tokenizer, compute_score):
            self.config, self.tokenizer, self.compute_score = config, tokenizer, compute_score

    with_modules(
        "worldpm.integrations.verl_manager",
        {
            "verl.experimental.reward_loop.reward_manager": {"register": register},
            "verl.experimental.reward_loop.reward_manager.base": {
                "RewardManagerBase": RewardManagerBase
            },
        },
    )
    return registered["worldpm"]


def test_verl_the_manager_sees_the_raw_prompt(reward, verl_manager):
    config = SimpleNamespace(reward={"reward_kwargs": {"worldpm": {"source": "http://server"}}})
    manager = verl_manager(config=config, tokenizer=TokenizerDouble(), compute_score=None,
                           reward_router_address=None, reward_model_tokenizer=None)  # fmt: skip
    item = SimpleNamespace(
        batch={
            "responses": torch.tensor(letters("yes", 5)),
            "attention_mask": torch.tensor([0, 1, 1, 1, 1, 1, 0, 0]),
        },
        non_tensor_batch={
            "raw_prompt": np.array(CHAT, dtype=object),
            "data_source": "site",
            "reward_model": {"ground_truth": 4},
        },
    )
    result = asyncio.run(manager.run_single(BatchDouble([item])))
    assert result["reward_score"] == 3.0
    assert result["reward_extra_info"] == {"score": 3.0, "abstained": 0.0}
    assert reward.samples == [Sample(HI, "yes", "4", "site")]
    assert reward.names == ["http://server"]


def test_verl_finds_the_manager_by_its_entry_point(project_root: Path):
    text = (project_root / "pyproject.toml").read_text()
    assert (
        '[project.entry-points."verl.plugins"]\nworldpm = "worldpm.integrations.verl_manager"'
        in (text)
    )


# EasyR1


def test_easyr1_loads_the_file_and_gets_one_dictionary_a_response(reward, tmp_path):
    module = load_from_path(easyr1)
    assert module.REWARD_TYPE == "batch"
    groups = [Group("1", HI, ("a",)), Group("2", (Message("user", "two"),), ("b",))]
    write_group_file(tmp_path / "groups.jsonl", groups)
    assert module.prepare(tmp_path / "groups.jsonl", tmp_path / "train.parquet") == 2
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert [row["prompt"] for row in rows] == ["hi", "two"]

    # What EasyR1 does: the answer column becomes the ground truth, options are bound beforehand.
    function = partial(module.main, source="http://server", on_abstain=-1.0)
    inputs = [
        {"response": text, "response_length": len(text), "ground_truth": row["answer"]}
        for text, row in zip(["yes", "?"], rows, strict=True)
    ]
    answers = function(inputs)
    assert answers == [
        {"overall": 3.0, "worldpm": 3.0, "abstained": 0.0},
        {"overall": -1.0, "worldpm": -1.0, "abstained": 1.0},
    ]
    assert [sample.prompt for sample in reward.samples] == [group.prompt for group in groups]


def test_easyr1_refuses_an_answer_without_messages(reward):
    for truth in ("4", "not json", json.dumps({"answer": 4})):
        with pytest.raises(InputError, match="prepare"):
            easyr1.main([{"response": "a", "response_length": 1, "ground_truth": truth}])


def test_easyr1_asks_single_questions_only(tmp_path):
    write_group_file(tmp_path / "groups.jsonl", [Group("1", (Message("system", "s"), *HI), ("a",))])
    with pytest.raises(InputError, match="2 turns"):
        easyr1.prepare(tmp_path / "groups.jsonl", tmp_path / "out.parquet")


# ROLL


@pytest.fixture
def roll(with_modules):
    class Worker:
        def __init__(self, worker_config):
            self.worker_config = worker_config
            self.rank_info = SimpleNamespace(rank=0, world_size=1)

    class DataProto:
        from_dict = staticmethod(lambda tensors: SimpleNamespace(batch=tensors))

    def register(dispatch_mode, clear_cache=True):
        def mark(method):
            method.dispatch = (dispatch_mode, clear_cache)
            return method

        return mark

    return with_modules(
        "worldpm.integrations.roll",
        {
            "roll.distributed.executor.worker": {"Worker": Worker},
            "roll.distributed.scheduler.decorator": {
                "Dispatch": SimpleNamespace(ONE_TO_ALL="one_to_all", DP_MP_COMPUTE="dp_mp"),
                "register": register,
            },
            "roll.distributed.scheduler.protocol": {"DataProto": DataProto},
            "roll.models.model_providers": {
                "default_tokenizer_provider": lambda model_args: TokenizerDouble()
            },
        },
    )


def test_roll_gets_the_three_tensors(reward, roll):
    worker = roll.WorldPMRewardWorker(
        SimpleNamespace(model_args=None, reward_manager_config=[{"source": "http://server"}])
    )
    assert roll.WorldPMRewardWorker.compute_rewards.dispatch == ("dp_mp", False)
    assert worker.rank_info.dp_size == 1
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    responses = ["yes<|im_end|>", "nope<|im_end|>"]
    data = SimpleNamespace(
        batch={
            "prompts": torch.tensor([letters(prompt, 70, left=True)] * 2),
            "responses": torch.tensor([letters(text, 20) for text in responses]),
        },
        non_tensor_batch={
            "ground_truth": np.array(["4", "5"], dtype=object),
            "domain": np.array(["math", "chat"], dtype=object),
        },
    )
    batch = worker.compute_rewards(data).batch
    assert set(batch) == {"token_level_rewards", "response_level_rewards", "scores"}
    assert batch["scores"].tolist() == batch["response_level_rewards"].tolist() == [3.0, 4.0]
    assert batch["token_level_rewards"].shape == (2, 20)
    assert not batch["token_level_rewards"].any()
    assert {tensor.dtype for tensor in batch.values()} == {torch.float32}
    assert reward.samples == [Sample(HI, "yes", "4", "math"), Sample(HI, "nope", "5", "chat")]
    assert reward.names == ["http://server"]


def test_roll_works_for_one_request_without_ground_truth(reward, roll):
    worker = roll.WorldPMRewardWorker(
        SimpleNamespace(model_args=None, judge_api_url="http://judge")
    )
    data = SimpleNamespace(
        batch={
            "prompts": torch.tensor([letters("<s>[INST] hi[/INST]", 30, left=True)]),
            "responses": torch.tensor([letters(" yes</s>", 9)]),
        },
        non_tensor_batch={},
    )
    assert worker.compute_rewards(data).batch["scores"].shape == (1,)
    assert reward.samples[0].prompt == HI
    assert reward.names == ["http://judge"]
