"""One text names a server, a reward file or a checkpoint; an abstention never becomes 0."""

from __future__ import annotations

import numpy as np
import pytest

from worldpm.client import AsyncScoringClient, ScoringClient
from worldpm.errors import ConfigError, InputError, ServerError
from worldpm.integrations.source import messages_of, numbers_of, open_reward, reference_of
from worldpm.rewards.base import RewardValue
from worldpm.rewards.rules import LengthReward
from worldpm.rewards.trained import TrainedReward
from worldpm.schema import Message


def test_an_address_opens_a_server_and_is_opened_once():
    reward = open_reward("http://127.0.0.1:1")
    assert isinstance(reward, TrainedReward)
    assert isinstance(reward.source, ScoringClient)
    assert isinstance(reward.async_source, AsyncScoringClient)
    assert open_reward("http://127.0.0.1:1") is reward


def test_a_file_opens_its_reward_and_the_environment_may_name_it(tmp_path, monkeypatch):
    path = tmp_path / "reward.yaml"
    path.write_text("reward: {type: length, max_words: 3}\n")
    monkeypatch.setenv("WORLDPM_REWARD", str(path))
    assert open_reward() == LengthReward(max_words=3)


def test_nothing_and_the_unknown_are_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("WORLDPM_REWARD", raising=False)
    with pytest.raises(ConfigError, match="WORLDPM_REWARD"):
        open_reward()
    with pytest.raises(ConfigError, match="no checkpoint folder"):
        open_reward(str(tmp_path / "missing"))


def test_an_abstention_needs_a_chosen_number():
    values = [RewardValue(1.5), RewardValue.abstain("no idea")]
    with pytest.raises(ServerError, match=r"sample 1 abstains .no idea."):
        numbers_of(values, None, where="test")
    assert numbers_of(values, -1.0, where="test") == [1.5, -1.0]


@pytest.mark.parametrize(
    "value",
    [
        [{"role": "user", "content": "hi"}],
        np.array([{"role": "user", "content": "hi"}], dtype=object),
        "hi",
    ],
)
def test_messages_come_as_text_list_or_array(value):
    assert messages_of(value, where="x") == (Message("user", "hi"),)


@pytest.mark.parametrize("value", [None, 3, [], ["hi"], {"role": "user"}, [{"role": "x"}]])
def test_what_is_no_conversation_is_refused(value):
    with pytest.raises(InputError):
        messages_of(value, where="x")


def test_references_of_any_type_become_text():
    assert [reference_of(value) for value in (None, "a", 4, {"b": 1})] == [
        None,
        "a",
        "4",
        '{"b": 1}',
    ]
