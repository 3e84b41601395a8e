"""The reader of each format."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from data_pipeline.sources.preference_sets import (
    conversations,
    helpsteer2,
    hh_rlhf,
    label_studio,
    rm_gallery,
    ultrafeedback,
    votes,
)
from data_pipeline.sources.preference_sets.config import ImportSource, SetFormat
from data_pipeline.sources.preference_sets.records import Dropped
from worldpm.group_files import read_group_file
from worldpm.schema import Group

Reader = Callable[[ImportSource, int], Iterator[Group | Dropped]]

READERS: dict[SetFormat, Reader] = {
    "groups": lambda source, _: read_group_file(source.path),
    "helpsteer2": lambda source, _: helpsteer2.read(source.path, source.helpsteer2_dimension),
    "ultrafeedback": lambda source, seed: ultrafeedback.read(
        source.path, source.ultrafeedback_rating, seed
    ),
    "conversations": lambda source, _: conversations.read(source.path, source.name),
    "hh_rlhf": lambda source, _: hh_rlhf.read(source.path),
    "rm_gallery": lambda source, _: rm_gallery.read(source.path, source.name),
    "shp": lambda source, _: votes.read_shp(source.path, source.shp_min_score_ratio),
    "quora": lambda source, seed: votes.read_quora(source.path, source.quora_pairing, seed),
    "label_studio": lambda source, _: label_studio.read(
        source.path, source.label_studio, source.name
    ),
}


def read_preference_set(source: ImportSource, seed: int) -> Iterator[Group | Dropped]:
    """The groups of a published set, one row or prompt after the other.

    `seed` keys the draws of formats with more than one possible pair a prompt.

    Raises:
        InputError: naming file, row and reason.
    """
    return READERS[source.format](source, seed)
