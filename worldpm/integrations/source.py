"""Where an adapter's rewards come from: a server, a reward file, or a checkpoint.

One text names it everywhere: `http://…` is a scoring server, `….yaml` a reward file, a folder a
checkpoint that is loaded into the process. Without it the variable WORLDPM_REWARD is read, because
most systems start their reward workers themselves; WORLDPM_API_KEY holds the server's key.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from worldpm.client import AsyncScoringClient, ScoringClient
from worldpm.errors import ConfigError, InputError, ServerError
from worldpm.rewards.base import Reward, RewardValue
from worldpm.rewards.trained import TrainedReward
from worldpm.schema import Message, parse_messages

REWARD_VARIABLE = "WORLDPM_REWARD"
API_KEY_VARIABLE = "WORLDPM_API_KEY"


def open_reward(source: str | None = None) -> Reward:
    """The reward that `source`, or WORLDPM_REWARD, names; the same object for the same name.

    Raises:
        ConfigError: nothing is named, or what is named does not exist.
    """
    name = source or os.environ.get(REWARD_VARIABLE)
    if not name:
        raise ConfigError(
            f"no reward is named: set {REWARD_VARIABLE} to the URL of `worldpm serve`, to a reward "
            "file (.yaml) or to a checkpoint folder"
        )
    return _open(name, os.environ.get(API_KEY_VARIABLE))


@lru_cache(maxsize=8)
def _open(name: str, api_key: str | None) -> Reward:
    if name.startswith(("http://", "https://")):
        return TrainedReward(
            ScoringClient(name, api_key=api_key), AsyncScoringClient(name, api_key=api_key)
        )
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        from worldpm.rewards.registry import load_reward

        return load_reward(path)
    if not path.is_dir():
        raise ConfigError(f"{name} is no URL, no .yaml file and no checkpoint folder")
    from worldpm.scoring import Scorer

    return TrainedReward(Scorer.from_checkpoint(path))


def numbers_of(
    values: Sequence[RewardValue], on_abstain: float | None, *, where: str
) -> list[float]:
    """Plain numbers for a system that knows no abstention.

    `on_abstain` replaces abstentions, where the caller has chosen a number.

    Raises:
        ServerError: a reward abstains and no number was chosen for that.
    """
    numbers: list[float] = []
    for index, value in enumerate(values):
        number = on_abstain if value.value is None else value.value
        if number is None:
            raise ServerError(
                f"{where}: the reward of sample {index} abstains ({value.reason}) and this system "
                "needs a number: choose one as on_abstain, or give a reward that always judges"
            )
        numbers.append(float(number))
    return numbers


def messages_of(value: Any, *, where: str) -> tuple[Message, ...]:
    """Messages from what systems hand over: a text, or a list (or array) of `{role, content}`.

    Raises:
        InputError: it is neither; the text begins with `where`.
    """
    if isinstance(value, str):
        return (Message("user", value),)
    if isinstance(value, Mapping) or not hasattr(value, "__iter__"):
        raise InputError(f"{where}: expected a text or a list of messages, found {type(value)}")
    turns = [turn for turn in value if isinstance(turn, Mapping)]
    if not turns or len(turns) != len(value):
        raise InputError(f"{where}: expected at least one message of role and content")
    return parse_messages(turns, where=where)


def reference_of(value: Any) -> str | None:
    """A ground truth of any type as the text that rules compare with."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
