"""Draft questions: what is asked about which entity, in which words."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar
from zlib import crc32

from data_pipeline.sources.generated.text import Block
from data_pipeline.sources.generated.vocabulary import (
    ASKS,
    CLOSINGS,
    CONTEXTS,
    HOSTILE_ASIDES,
    PEOPLE,
    PLACES,
    TIMES,
    TITLES,
    UNICODE_ASIDES,
)
from data_pipeline.sources.generated.world import SiteWorld

Item = TypeVar("Item")

UNICODE_SHARE = 0.03
HOSTILE_SHARE = 0.003
HELD_OUT_ONE_IN = 8


@dataclass(frozen=True, slots=True)
class Subject:
    """What a question is about; `world` need not be that of the site it is posted on."""

    world: SiteWorld
    entity: str
    attribute: str
    symptom: str


@dataclass(frozen=True, slots=True)
class Question:
    """A drafted question; `copy_of` numbers the posting it copies, where it is a near-copy."""

    subject: Subject
    title: str
    blocks: list[Block]
    copy_of: int | None = None
    replaced_words: int = 0


def pick(items: Sequence[Item], rng: Random) -> Item:
    """One item, all alike likely. Uses `random()` alone, whose stream Python keeps stable."""
    return items[int(rng.random() * len(items))]


def draft_question(world: SiteWorld, rng: Random, *, held_out: bool = False) -> Question:
    """A question of two to five sentences about an entity drawn by its popularity.

    A fixed share of all texts is kept for test sets: the dump never asks a held-out question.
    """
    while True:
        question = _draft(world, rng)
        words = question.title + "".join(block.lines[0] for block in question.blocks)
        if (crc32(words.encode()) % HELD_OUT_ONE_IN == 0) == held_out:
            return question


def _draft(world: SiteWorld, rng: Random) -> Question:
    entity, attribute = draw_entity(world, rng), pick(world.attributes, rng)
    subject = Subject(world, entity, attribute, pick(world.theme.symptoms, rng))
    contexts = [fill(pick(CONTEXTS, rng), subject, rng)]
    if rng.random() < 0.6:
        contexts.append(fill(pick(CONTEXTS, rng), subject, rng))
    ask = fill(pick(ASKS, rng), subject, rng)
    if rng.random() < 0.3:
        ask += " " + pick(CLOSINGS, rng)
    blocks = [Block("paragraph", (" ".join(contexts),)), Block("paragraph", (ask,))]
    blocks.extend(asides(rng))
    if world.theme.command and rng.random() < 0.08:
        blocks.insert(1, Block("code", (f"{world.theme.command} status --{attribute}",)))
    return Question(subject, fill(pick(TITLES, rng), subject, rng), blocks)


def draw_entity(world: SiteWorld, rng: Random) -> str:
    """An entity of a site, by its popularity."""
    weights = world.cumulative_weights
    return world.entities[bisect_left(weights, rng.random() * weights[-1])]


def fill(template: str, subject: Subject, rng: Random) -> str:
    """A stock sentence with its places filled in."""
    text = template.format(
        entity=subject.entity,
        attribute=subject.attribute,
        symptom=subject.symptom,
        thing=subject.world.theme.thing,
        person=pick(PEOPLE, rng),
        place=pick(PLACES, rng),
        time=pick(TIMES, rng),
    )
    return text[0].upper() + text[1:]


def asides(rng: Random) -> list[Block]:
    """Now and then a paragraph of other scripts, or of text that looks like markup."""
    luck = rng.random()
    if luck < HOSTILE_SHARE:
        return [Block("paragraph", (pick(HOSTILE_ASIDES, rng),))]
    if luck < HOSTILE_SHARE + UNICODE_SHARE:
        return [Block("paragraph", (pick(UNICODE_ASIDES, rng),))]
    return []
