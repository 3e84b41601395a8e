"""Draft answers: latent qualities first, then the words that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from data_pipeline.sources.generated.questions import Question, asides, draw_entity, fill, pick
from data_pipeline.sources.generated.text import Block, bold
from data_pipeline.sources.generated.vocabulary import (
    ASSERTIONS,
    CASUAL,
    CONFIDENT,
    DISMISSIVE,
    FILLERS,
    FORMAL,
    HEADINGS,
    HELPFUL_CLOSERS,
    HELPFUL_OPENERS,
    ME_TOO,
    SPAM,
)
from data_pipeline.sources.generated.world import STEPS_PER_TASK

Tone = Literal["helpful", "plain", "dismissive", "me_too", "spam"]
Taste = Literal["casual", "formal", "none"]

TONE_QUALITY: dict[Tone, float] = {
    "helpful": 0.5,
    "plain": 0.2,
    "dismissive": -0.7,
    "me_too": -1.0,
    "spam": -1.6,
}
CORRECT_QUALITY = 1.6
ON_TOPIC_QUALITY = 0.5
COMPLETE_QUALITY = 0.8
NON_ANSWER_FILLERS = 2


@dataclass(frozen=True, slots=True)
class Latent:
    """What an answer is like before it has words.

    `num_steps` of the task's steps are named, and `num_stray_steps` that belong to other tasks.
    `num_fillers`, `is_confident`, `has_markdown` and `taste` are style: they say nothing about
    quality, and neither do stray steps.
    """

    tone: Tone
    is_correct: bool
    is_on_topic: bool
    num_steps: int
    num_stray_steps: int = 0
    num_fillers: int = 0
    is_confident: bool = False
    has_markdown: bool = False
    taste: Taste = "none"

    @property
    def quality(self) -> float:
        """The planted true quality: what votes tend to follow."""
        if self.tone in {"me_too", "spam"}:
            return TONE_QUALITY[self.tone]
        return (
            TONE_QUALITY[self.tone]
            + CORRECT_QUALITY * (self.is_correct and self.is_on_topic)
            + ON_TOPIC_QUALITY * self.is_on_topic
            + COMPLETE_QUALITY * self.num_steps / STEPS_PER_TASK
        )

    @property
    def style(self) -> float:
        """How much there is of what impresses without helping, in rough units of one."""
        return 0.5 * self.num_fillers + 1.0 * self.has_markdown + 0.5 * self.is_confident - 1.0


def draw_latent(skill: float, rng: Random) -> Latent:
    """Draw an answer's qualities for an author of `skill` (standard normal)."""
    tone = _draw_tone(skill, rng)
    taste_luck = rng.random()
    # Skilled authors write a little more: length goes with quality without causing it.
    talkative = 0.4 + 0.03 * skill
    num_named = 1 + int(rng.random() * STEPS_PER_TASK)
    num_steps = sum(rng.random() < _clip(0.5 + 0.25 * skill) for _ in range(num_named))
    return Latent(
        tone=tone,
        is_correct=rng.random() < _clip(0.6 + 0.18 * skill),
        is_on_topic=rng.random() < _clip(0.9 + 0.05 * skill),
        num_steps=num_steps,
        num_stray_steps=num_named - num_steps,
        num_fillers=sum(rng.random() < talkative for _ in range(3)),
        is_confident=rng.random() < 0.2,
        has_markdown=rng.random() < 0.25,
        taste="casual" if taste_luck < 0.15 else "formal" if taste_luck < 0.3 else "none",
    )


def draft_answer(question: Question, latent: Latent, rng: Random) -> list[Block]:
    """The answer's text, showing exactly what `latent` says."""
    if latent.tone in {"me_too", "spam"}:
        stock = ME_TOO if latent.tone == "me_too" else SPAM
        sentences = [_fill(pick(stock, rng), question, rng)]
        # Non-answers ramble, or their length alone would give them away.
        sentences.extend(
            _fill(pick(FILLERS, rng), question, rng) for _ in range(NON_ANSWER_FILLERS)
        )
        sentences.extend(_closing(question, latent, rng))
        return [Block("paragraph", (" ".join(sentences),))]
    claim = _claim(question, latent, rng)
    steps = _steps(question, latent, rng)
    opening = _opening(question, latent, rng)
    closing = _closing(question, latent, rng)
    if latent.has_markdown:
        return _marked_up(opening, claim, steps, closing, rng)
    sentences = [*opening, claim, *_as_sentences(steps), *closing]
    blocks = [Block("paragraph", (" ".join(sentences),)), *asides(rng)]
    if question.subject.world.theme.command and rng.random() < 0.06:
        blocks.append(
            Block(
                "code",
                (f"{question.subject.world.theme.command} restart --{question.subject.attribute}",),
            )
        )
    return blocks


def _draw_tone(skill: float, rng: Random) -> Tone:
    luck = rng.random() + 0.1 * skill
    if luck < 0.05:
        return "spam"
    if luck < 0.12:
        return "me_too"
    if luck < 0.22:
        return "dismissive"
    return "plain" if luck < 0.65 else "helpful"


def _clip(probability: float) -> float:
    return min(0.97, max(0.03, probability))


def _fill(template: str, question: Question, rng: Random) -> str:
    return fill(template, question.subject, rng)


def _claim(question: Question, latent: Latent, rng: Random) -> str:
    world, attribute = question.subject.world, question.subject.attribute
    entity = question.subject.entity
    template = pick(ASSERTIONS, rng)
    if not latent.is_on_topic:
        # An answer to another question always names what it talks about.
        while entity == question.subject.entity:
            entity = draw_entity(world, rng)
        template = pick(ASSERTIONS[:2], rng)
    value = world.facts[entity][attribute]
    # Drawn in either case, so that one random stream makes two answers that differ in the value.
    luck = rng.random()
    if not latent.is_correct:
        values = world.theme.attributes[attribute]
        away = 1 + int(luck * (len(values) - 1))
        value = values[(values.index(value) + away) % len(values)]
    if latent.has_markdown:
        value = bold(value)
    return template.format(value=value, attribute=attribute, entity=entity, thing=world.theme.thing)


def _steps(question: Question, latent: Latent, rng: Random) -> list[str]:
    world = question.subject.world
    task = world.tasks[question.subject.attribute]
    others = [step for step in world.theme.steps if step not in task]
    named = {
        *_shuffled(task, rng)[: latent.num_steps],
        *_shuffled(others, rng)[: latent.num_stray_steps],
    }
    return [step for step in world.theme.steps if step in named]


def _shuffled(steps: Sequence[str], rng: Random) -> list[str]:
    return sorted(steps, key=lambda _: rng.random())


def _opening(question: Question, latent: Latent, rng: Random) -> list[str]:
    sentences: list[str] = []
    if latent.tone == "helpful":
        sentences.append(_fill(pick(HELPFUL_OPENERS, rng), question, rng))
    elif latent.tone == "dismissive":
        sentences.append(_fill(pick(DISMISSIVE, rng), question, rng))
    if latent.taste == "formal":
        sentences.append(pick(FORMAL, rng))
    return sentences


def _closing(question: Question, latent: Latent, rng: Random) -> list[str]:
    sentences = [_fill(pick(FILLERS, rng), question, rng) for _ in range(latent.num_fillers)]
    if latent.is_confident:
        sentences.append(pick(CONFIDENT, rng))
    if latent.tone == "helpful" and rng.random() < 0.5:
        sentences.append(_fill(pick(HELPFUL_CLOSERS, rng), question, rng))
    if latent.taste == "casual":
        sentences.append(pick(CASUAL, rng))
    return sentences


def _as_sentences(steps: list[str]) -> list[str]:
    if not steps:
        return []
    if len(steps) == 1:
        return [f"Also {steps[0]}."]
    return [f"First {steps[0]}, then {', then '.join(steps[1:])}."]


def _marked_up(
    opening: list[str], claim: str, steps: list[str], closing: list[str], rng: Random
) -> list[Block]:
    blocks: list[Block] = []
    if rng.random() < 0.4:
        blocks.append(Block("heading", (pick(HEADINGS, rng),)))
    blocks.append(Block("paragraph", (" ".join([*opening, claim]),)))
    if steps:
        items = tuple(step[0].upper() + step[1:] for step in steps)
        blocks.append(Block("ordered" if rng.random() < 0.6 else "bullets", items))
    if closing:
        blocks.append(Block("paragraph", (" ".join(closing),)))
    return blocks
