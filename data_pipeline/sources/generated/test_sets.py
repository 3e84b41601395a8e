"""Held-out test sets of the planted world: adversarial, objective and subjective pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

from data_pipeline.sources.generated.answers import Latent, draft_answer
from data_pipeline.sources.generated.questions import Question, draft_question, pick
from data_pipeline.sources.generated.text import to_markdown
from data_pipeline.sources.generated.world import STEPS_PER_TASK, SiteWorld
from worldpm.schema import Group, Message, Pair

# How often the casual answer is the preferred one: a taste that no vote of the dump follows.
CASUAL_PREFERENCE = 0.56

MakeLatents = Callable[[Random], tuple[Latent, Latent]]


def make_test_set(
    name: str, worlds: tuple[SiteWorld, ...], num_items: int, seed: int
) -> Iterator[Group]:
    """Groups of two answers to questions that are not in the dump; the pair is the true order.

    adversarial: a right, plain answer against a wrong one that is longer, often confident and
    sometimes marked up. objective: right against wrong, all else alike. subjective: two right
    answers in different tone, labelled by a weak taste.
    """
    make_latents = _LATENTS[name]
    subjects = [world for world in worlds if not world.theme.is_meta]
    for number in range(num_items):
        rng = Random(f"{seed}/test/{name}/{number}")
        world = pick(subjects, rng)
        question = draft_question(world, rng, held_out=True)
        texts = [
            # The same stream for both: what the latents share comes out in the same words.
            to_markdown(draft_answer(question, latent, Random(f"{seed}/{name}/{number}")))
            for latent in make_latents(rng)
        ]
        # The preferred answer stands first or second by chance: its place tells nothing.
        first = int(rng.random() < 0.5)
        yield Group(
            group_id=f"{name}/{number:05d}",
            prompt=(Message("user", prompt_text(question)),),
            responses=(texts[0], texts[1]) if first == 0 else (texts[1], texts[0]),
            pairs=(Pair(chosen=first, rejected=1 - first),),
        )


def prompt_text(question: Question) -> str:
    """Title and body as the pipeline joins them."""
    return f"{question.title}\n\n{to_markdown(question.blocks)}"


def _adversarial(rng: Random) -> tuple[Latent, Latent]:
    right = Latent(
        "plain",
        is_correct=True,
        is_on_topic=True,
        num_steps=1 + int(rng.random() * (STEPS_PER_TASK - 1)),
        num_fillers=int(rng.random() * 2),
    )
    wrong = replace(
        right,
        is_correct=False,
        num_fillers=right.num_fillers + 1,
        is_confident=rng.random() < 0.5,
        has_markdown=rng.random() < 0.3,
    )
    return right, wrong


def _objective(rng: Random) -> tuple[Latent, Latent]:
    right = Latent(
        "plain",
        is_correct=True,
        is_on_topic=True,
        num_steps=int(rng.random() * (STEPS_PER_TASK + 1)),
        num_fillers=int(rng.random() * 3),
        has_markdown=rng.random() < 0.25,
    )
    return right, replace(right, is_correct=False)


def _subjective(rng: Random) -> tuple[Latent, Latent]:
    casual = Latent(
        "plain",
        is_correct=True,
        is_on_topic=True,
        num_steps=int(rng.random() * (STEPS_PER_TASK + 1)),
        num_fillers=int(rng.random() * 3),
        taste="casual",
    )
    formal = replace(casual, taste="formal")
    return (casual, formal) if rng.random() < CASUAL_PREFERENCE else (formal, casual)


_LATENTS: dict[str, MakeLatents] = {
    "adversarial": _adversarial,
    "objective": _objective,
    "subjective": _subjective,
}
TEST_SET_NAMES = tuple(_LATENTS)
