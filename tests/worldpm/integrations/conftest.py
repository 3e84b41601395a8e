"""A reward that records what it is asked, and doubles of packages that are not installed here."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from worldpm.integrations import source
from worldpm.rewards.base import Reward, RewardValue, Sample


class RecordingReward(Reward):
    """The length of a response; abstains for the response `?`."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.names: list[str] = []

    def score(self, samples: Sequence[Sample]) -> list[RewardValue]:
        self.samples += samples
        return [
            RewardValue.abstain("no idea")
            if sample.response == "?"
            else RewardValue(float(len(sample.response)))
            for sample in samples
        ]


@pytest.fixture
def reward(monkeypatch: pytest.MonkeyPatch) -> RecordingReward:
    """Stands behind every name that an adapter opens."""
    recording = RecordingReward()

    def open_any(name: str, api_key: str | None) -> Reward:
        recording.names.append(name)
        return recording

    monkeypatch.setattr(source, "_open", open_any)
    monkeypatch.setenv("WORLDPM_REWARD", "http://from-the-environment")
    return recording


@pytest.fixture
def with_modules(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Put doubles of a system's modules in place and import our adapter anew."""

    def install(adapter: str, modules: dict[str, dict[str, Any]]) -> Any:
        for name in sorted({part for full in modules for part in _parents(full)}):
            module = types.ModuleType(name)
            vars(module).update(modules.get(name, {}))
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delitem(sys.modules, adapter, raising=False)
        imported = importlib.import_module(adapter)
        monkeypatch.setitem(sys.modules, adapter, imported)
        return imported

    return install


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
