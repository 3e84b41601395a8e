"""Near-copies: long questions posted several times, on any site, with a few words replaced.

All copies are variants of numbered originals that any site can make again from the seed, so a copy
needs no memory of what was written before, and its distance is known.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from data_pipeline.sources.generated.questions import Question, draft_question, fill, pick
from data_pipeline.sources.generated.text import Block
from data_pipeline.sources.generated.vocabulary import CONTEXTS, PEOPLE, PLACES
from data_pipeline.sources.generated.world import SiteWorld

# Words replaced in a copy. Of n words, k replaced ones (at least 5 apart, away from the ends)
# leave n - 4 - 5k common 5-grams of n - 4 + 5k: Jaccard (n - 4 - 5k) / (n - 4 + 5k).
LEVELS: tuple[int, ...] = (0, 0, 1, 2, 4, 8)
NUM_SENTENCES = 14
POSTS_PER_ORIGINAL = 400


def num_originals(num_posts: int) -> int:
    """How many originals a dump of this size has."""
    return max(4, num_posts // POSTS_PER_ORIGINAL)


def draft_copy(worlds: tuple[SiteWorld, ...], number: int, seed: int, rng: Random) -> Question:
    """A variant of original `number`; `rng` decides how far it strays."""
    original = _draft_original(_world_of(worlds, number), number, seed)
    count = pick(LEVELS, rng)
    words = original.blocks[0].lines[0].split()
    for index in _spread_positions(len(words), count, rng):
        words[index] = f"{pick(PLACES, rng).split()[-1]}{int(rng.random() * 10_000)}"
    body = [Block("paragraph", (" ".join(words),)), *original.blocks[1:]]
    return replace(original, blocks=body, copy_of=number, replaced_words=count)


def _world_of(worlds: tuple[SiteWorld, ...], number: int) -> SiteWorld:
    subjects = [world for world in worlds if not world.theme.is_meta]
    return subjects[number % len(subjects)]


def _draft_original(world: SiteWorld, number: int, seed: int) -> Question:
    rng = Random(f"{seed}/original/{number}")
    question = draft_question(world, rng)
    sentences = [fill(pick(CONTEXTS, rng), question.subject, rng) for _ in range(NUM_SENTENCES - 1)]
    # Stock sentences repeat between originals; an own serial number in every sentence keeps two
    # originals apart.
    stamped = [
        f"{sentence[:-1]}, says {pick(PEOPLE, rng)} in note {number}-{index}."
        for index, sentence in enumerate(sentences)
    ]
    return replace(
        question,
        blocks=[Block("paragraph", (" ".join(stamped),)), question.blocks[-1]],
    )


def _spread_positions(num_words: int, count: int, rng: Random) -> list[int]:
    """`count` positions at least 5 apart and at least 4 from both ends."""
    if not count:
        return []
    width = (num_words - 8) // count
    return [4 + slot * width + int(rng.random() * (width - 4)) for slot in range(count)]
