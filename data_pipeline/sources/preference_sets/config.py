"""Which published preference set a file is, and how its ratings become pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from data_pipeline.sources.preference_sets.helpsteer2 import Dimension
from data_pipeline.sources.preference_sets.label_studio import LabelStudioKeys
from data_pipeline.sources.preference_sets.records import AnswerPairing
from data_pipeline.sources.preference_sets.ultrafeedback import Rating
from worldpm.config import ConfigModel

SetFormat = Literal[
    "groups",
    "helpsteer2",
    "ultrafeedback",
    "conversations",
    "hh_rlhf",
    "rm_gallery",
    "shp",
    "quora",
    "label_studio",
]


class ImportSource(ConfigModel):
    """A file or folder of rows. The other keys matter to the format they name."""

    path: Path
    format: SetFormat
    name: str = Field(default="import", pattern=r"^[\w.-]+$")
    """What stands in `site`."""
    licence: str | None = None
    """What stands in `licence` of every response."""
    helpsteer2_dimension: Dimension = "helpfulness"
    ultrafeedback_rating: Rating = "fine-grained_score"
    shp_min_score_ratio: float = Field(default=1.0, ge=1)
    quora_pairing: AnswerPairing = "one_random_pair"
    label_studio: LabelStudioKeys = LabelStudioKeys()
