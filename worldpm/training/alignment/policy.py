"""A policy that writes answers of the generated world: independent choices of what they are like.

A choice is a categorical law: tone, right or wrong, on topic, which steps, how much filler, style.
The generator's grammar puts it into words, so that a preference model reads text, while gradient of
the log-likelihood, divergence from the start and true quality are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from data_pipeline.sources.generated.answers import Latent, draft_answer
from data_pipeline.sources.generated.questions import Question, draft_question, pick
from data_pipeline.sources.generated.test_sets import prompt_text
from data_pipeline.sources.generated.text import to_markdown
from data_pipeline.sources.generated.world import SiteWorld
from worldpm.schema import Group, Message

Floats = NDArray[np.float64]
Choices = Mapping[str, int]
Logits = dict[str, Floats]

TONES = ("helpful", "plain", "dismissive", "me_too", "spam")
TASTES = ("casual", "formal", "none")
# About the laws of an author of ordinary skill in the dump; the policy may learn more filler than
# the dump ever shows, as a policy of words may learn to ramble.
START: dict[str, tuple[float, ...]] = {
    "tone": (0.35, 0.43, 0.10, 0.07, 0.05),
    "is_correct": (0.4, 0.6),
    "is_on_topic": (0.1, 0.9),
    "num_steps": (0.25, 0.35, 0.25, 0.11, 0.04),
    "num_stray_steps": (0.25, 0.35, 0.25, 0.11, 0.04),
    "num_fillers": (0.22, 0.42, 0.26, 0.06, 0.02, 0.01, 0.01),
    "is_confident": (0.8, 0.2),
    "has_markdown": (0.75, 0.25),
    "taste": (0.15, 0.15, 0.7),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One sampled answer: its choices, its text and its true quality."""

    choices: Choices
    text: str
    quality: float
    style: float


def start_logits() -> Logits:
    """The policy before any optimisation."""
    return {name: np.log(np.asarray(law)) for name, law in START.items()}


def probabilities(logits_C: Floats) -> Floats:
    """The law of one choice."""
    weights_C = np.exp(logits_C - logits_C.max())
    return weights_C / weights_C.sum()


def divergence(logits: Logits, reference: Logits) -> float:
    """KL(policy ‖ reference) in nats: the sum over the independent choices."""
    total = 0.0
    for name, logits_C in logits.items():
        law_C, reference_C = probabilities(logits_C), probabilities(reference[name])
        total += float(law_C @ (np.log(law_C) - np.log(reference_C)))
    return total


def divergence_gradient(logits: Logits, reference: Logits) -> Logits:
    """The gradient of `divergence` by the logits: p (log p/q − KL) for every choice."""
    gradient: Logits = {}
    for name, logits_C in logits.items():
        law_C = probabilities(logits_C)
        ratio_C = np.log(law_C) - np.log(probabilities(reference[name]))
        gradient[name] = law_C * (ratio_C - law_C @ ratio_C)
    return gradient


def log_likelihood_gradient(logits: Logits, choices: Choices) -> Logits:
    """The gradient of an answer's log-likelihood: one at the choice made, less the law."""
    gradient = {name: -probabilities(logits_C) for name, logits_C in logits.items()}
    for name, choice in choices.items():
        gradient[name][choice] += 1
    return gradient


def sample_answer(logits: Logits, question: Question, rng: Random) -> Answer:
    """Draw the choices, then the words that show them."""
    choices = {name: _draw(probabilities(logits_C), rng) for name, logits_C in logits.items()}
    latent = Latent(
        tone=TONES[choices["tone"]],
        is_correct=bool(choices["is_correct"]),
        is_on_topic=bool(choices["is_on_topic"]),
        num_steps=choices["num_steps"],
        num_stray_steps=choices["num_stray_steps"],
        num_fillers=choices["num_fillers"],
        is_confident=bool(choices["is_confident"]),
        has_markdown=bool(choices["has_markdown"]),
        taste=TASTES[choices["taste"]],
    )
    return Answer(
        choices, to_markdown(draft_answer(question, latent, rng)), latent.quality, latent.style
    )


def _draw(law_C: Floats, rng: Random) -> int:
    place = int(np.searchsorted(np.cumsum(law_C), rng.random()))
    return min(place, len(law_C) - 1)


def sample_question(worlds: tuple[SiteWorld, ...], rng: Random) -> Question:
    """A question that the dump never asks, of a site where votes follow quality."""
    world = pick([world for world in worlds if not world.theme.is_meta], rng)
    return draft_question(world, rng, held_out=True)


def as_group(name: str, question: Question, answers: list[Answer]) -> Group:
    """What a preference model scores: a question and the answers sampled for it."""
    prompt = (Message("user", prompt_text(question)),)
    return Group(name, prompt, tuple(answer.text for answer in answers))
