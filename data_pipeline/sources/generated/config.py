"""What a made-up dump consists of: its size, its sites and how its votes come about."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from worldpm.config import ConfigModel


class WorldSettings(ConfigModel):
    """The planted facts. Fewer entities make each fact more frequent, so easier to learn."""

    entities_per_site: int = Field(default=24, ge=4, le=5_000)
    entity_exponent: float = Field(default=1.0, ge=0, le=3)
    """Zipf exponent of how often an entity is asked about: 0 asks about all alike."""
    family_rule_share: float = Field(default=0.6, ge=0, le=1)
    """Share of facts that follow the entity's family (its name's ending), not an exception."""


class VoteSettings(ConfigModel):
    """How quality becomes votes."""

    typical_votes: float = Field(default=3.0, gt=0, le=1_000)
    """Median number of upvotes of an answer of average quality."""
    popularity_spread: float = Field(default=0.9, ge=0, le=3)
    """Standard deviation of the log of a question's popularity: the heavy tail."""
    answer_noise: float = Field(default=0.55, ge=0, le=3)
    """Standard deviation of the log of an answer's luck: what keeps votes from telling quality."""
    style_weight: float = Field(default=0.1, ge=0, le=2)
    """What length and Markdown add to the log of the votes without adding quality."""


class GenerateConfig(ConfigModel):
    """Settings of `worldpm data generate`."""

    output_dir: Path
    num_posts: int = Field(default=40_000, ge=100, le=200_000_000)
    """Rows of all Posts.xml together."""
    seed: int = Field(default=17, ge=0)
    archive_format: Literal["7z", "xml"] = "7z"
    """One BZip2 .7z a site as the publisher makes them, or <host>/Posts.xml folders."""
    with_votes_file: bool = True
    """Also write Votes.xml, one row a vote: several times as many rows as posts."""
    num_test_items: int = Field(default=600, ge=2, le=100_000)
    """Items in each of the three held-out test sets."""
    near_copy_share: float = Field(default=0.02, ge=0, le=0.5)
    """Share of questions that are copies, exact to loose, of a question posted elsewhere."""
    world: WorldSettings = WorldSettings()
    votes: VoteSettings = VoteSettings()
