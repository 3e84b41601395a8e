"""The planted truth: which entity needs which value of an attribute, and the steps of each task."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import accumulate

from data_pipeline.sources.generated.config import WorldSettings
from data_pipeline.sources.generated.vocabulary import (
    NAME_ENDINGS,
    NAME_MIDDLES,
    NAME_STARTS,
    SITES,
    SiteTheme,
)

STEPS_PER_TASK = 4


@dataclass(frozen=True, slots=True)
class SiteWorld:
    """The facts of one site.

    `facts[entity][attribute]` is the one right value; `tasks[attribute]` the steps a complete
    answer names, in order; `cumulative_weights` how often each entity is asked about.
    """

    theme: SiteTheme
    entities: tuple[str, ...]
    attributes: tuple[str, ...]
    facts: dict[str, dict[str, str]]
    tasks: dict[str, tuple[str, ...]]
    cumulative_weights: tuple[float, ...]


def make_worlds(settings: WorldSettings, seed: int) -> tuple[SiteWorld, ...]:
    """The worlds of all sites, a function of settings and seed alone."""
    return tuple(_make_world(theme, settings, seed) for theme in SITES)


def _make_world(theme: SiteTheme, settings: WorldSettings, seed: int) -> SiteWorld:
    rng = random.Random(f"{seed}/world/{theme.host}")
    entities = _entity_names(settings.entities_per_site, rng)
    facts: dict[str, dict[str, str]] = {entity: {} for entity in entities}
    tasks: dict[str, tuple[str, ...]] = {}
    for attribute, values in theme.attributes.items():
        rule = {ending: _skewed(values, rng) for ending in NAME_ENDINGS}
        for entity in entities:
            follows = rng.random() < settings.family_rule_share
            facts[entity][attribute] = rule[_family(entity)] if follows else _skewed(values, rng)
        chosen = sorted(rng.sample(range(len(theme.steps)), STEPS_PER_TASK))
        tasks[attribute] = tuple(theme.steps[index] for index in chosen)
    weights = [(rank + 1) ** -settings.entity_exponent for rank in range(len(entities))]
    return SiteWorld(
        theme=theme,
        entities=entities,
        attributes=tuple(theme.attributes),
        facts=facts,
        tasks=tasks,
        cumulative_weights=tuple(accumulate(weights)),
    )


def _entity_names(count: int, rng: random.Random) -> tuple[str, ...]:
    names: dict[str, None] = {}
    while len(names) < count:
        parts = [rng.choice(NAME_STARTS), rng.choice(NAME_MIDDLES)]
        if len(names) >= len(NAME_STARTS) * len(NAME_MIDDLES):
            parts.append(rng.choice(NAME_STARTS).lower())
        names["".join(parts) + rng.choice(NAME_ENDINGS)] = None
    return tuple(names)


def _family(entity: str) -> str:
    return next(ending for ending in NAME_ENDINGS if entity.endswith(ending))


def _skewed(values: tuple[str, ...], rng: random.Random) -> str:
    # The first values are right more often, so that even a model that ignores the question can
    # learn something before it learns the facts.
    return values[int(len(values) * rng.random() ** 1.6)]
