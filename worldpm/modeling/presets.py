"""Published checkpoints by name: their layout, template, and the scores their authors print."""

from __future__ import annotations

from dataclasses import dataclass

from worldpm.errors import ConfigError
from worldpm.modeling.checkpoint_card import SelfTest
from worldpm.modeling.layouts import SourceLayout
from worldpm.schema import Message

# From the README of QwenLM/WorldPM.
_SLEEP = (Message("system", ""), Message("user", "Tips for better sleep?"))

_WORLDPM_SCORES = (
    SelfTest(
        _SLEEP,
        "Three key tips for better sleep:\n1. Set a consistent bedtime and wake-up schedule\n"
        "2. Avoid screens 1 hour before bed\n3. Keep your bedroom cool and dark\n\n"
        "Start with these habits and you should notice improvement within a week.",
        0.6298332214355469,
    ),
    SelfTest(
        _SLEEP,
        "just try sleeping earlier or take some pills if u cant sleep lol. "
        "maybe watch tv until u get tired idk",
        -1.6425328254699707,
    ),
)


@dataclass(frozen=True, slots=True)
class Preset:
    """How a published checkpoint is to be read."""

    repository: str
    layout: SourceLayout
    template: str
    published_scores: tuple[SelfTest, ...] = ()


# Trained with an empty system turn that is kept, the reward at `<|endoftext|>` (their README).
PRESETS = {
    "worldpm-72b": Preset("Qwen/WorldPM-72B", "qwen2-rm", "chatml", _WORLDPM_SCORES),
    "worldpm-72b-helpsteer2": Preset("Qwen/WorldPM-72B-HelpSteer2", "qwen2-rm", "chatml"),
    "worldpm-72b-ultrafeedback": Preset("Qwen/WorldPM-72B-UltraFeedback", "qwen2-rm", "chatml"),
    "worldpm-72b-rlhflow": Preset("Qwen/WorldPM-72B-RLHFLow", "qwen2-rm", "chatml"),
}


def find_preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]
