"""Preference samples as RM-Gallery writes them: labelled outputs to one list of messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_pipeline.sources.preference_sets.records import Dropped, make_group
from data_pipeline.sources.preference_sets.rows import Row, read_rows
from worldpm.schema import Group, Pair, parse_messages


def read(path: Path, name: str) -> Iterator[Group | Dropped]:
    """One group a sample: every output labelled `chosen` against every one labelled `rejected`.

    Raises:
        InputError: a row has no sample.
    """
    for number, row in enumerate(read_rows(path)):
        sample = row.value.get("evaluation_sample", row.value)
        if not isinstance(sample, dict):
            row.refuse("evaluation_sample must be an object")
        part = Row(sample, row.where)
        outputs = part.parts("outputs")
        labels = [output.value.get("content_label") for output in outputs]
        pairs = [
            Pair(chosen, rejected)
            for chosen, first in enumerate(labels)
            for rejected, second in enumerate(labels)
            if (first, second) == ("chosen", "rejected")
        ]
        prompt = parse_messages([turn.value for turn in part.parts("input")], where=row.where)
        texts = [output.text("content") for output in outputs]
        yield make_group(f"{name}/{number}", prompt, texts, pairs, row.where)
