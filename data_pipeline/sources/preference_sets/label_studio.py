"""Annotations out of Label Studio's JSON export: pairwise choices and rankings of responses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from data_pipeline.agreement import krippendorff_alpha
from data_pipeline.sources.preference_sets.records import Dropped, make_group
from data_pipeline.sources.preference_sets.rows import Row, read_rows
from worldpm.config import ConfigModel
from worldpm.schema import Group, Message, Pair, parse_messages


class LabelStudioKeys(ConfigModel):
    """Where a task's `data` has its texts: what the project's labelling interface names `$…`."""

    prompt: str = "prompt"
    """A text, or a list of messages."""
    responses: tuple[str, ...] = ("response_1", "response_2")
    """Pairwise tasks: the left and the right text."""
    items: str = "items"
    """Ranking tasks: the list of `{id, title, body}` that the List tag shows."""


@dataclass(frozen=True, slots=True)
class Judgment:
    """What one annotator says about two responses of a task, by their indices."""

    annotator: str
    better: int
    worse: int


def read(path: Path, keys: LabelStudioKeys, name: str) -> Iterator[Group | Dropped]:
    """One group a task: a pair where more annotators prefer one response than the other.

    The margin is the difference of their numbers. Skipped annotations do not count.

    Raises:
        InputError: a task lacks its texts, or names a response that is not there.
    """
    for task in read_rows(path):
        prompt, responses = _prompt(task, keys), _responses(task, keys)
        judgments = list(_judgments(task, responses))
        if not judgments:
            yield Dropped("not_annotated", task.where)
            continue
        yield make_group(
            f"{name}/{task.value.get('id', task.where)}",
            prompt,
            list(responses.values()),
            _majority(judgments),
            task.where,
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha of the annotators; None where no comparison was made twice."""

    alpha: float | None
    num_comparisons: int
    num_annotators: int


def measure_agreement(path: Path, keys: LabelStudioKeys) -> Agreement:
    """Agreement on which of two responses is better, over all compared pairs of all tasks.

    The comparison of two responses is a unit with two nominal values (Krippendorff 2011). A ranking
    gives all its comparisons.
    """
    units: list[dict[str, bool]] = []
    for task in read_rows(path):
        by_pair: dict[tuple[int, int], dict[str, bool]] = {}
        for judgment in _judgments(task, _responses(task, keys)):
            pair = (min(judgment.better, judgment.worse), max(judgment.better, judgment.worse))
            by_pair.setdefault(pair, {})[judgment.annotator] = judgment.better < judgment.worse
        units.extend(by_pair.values())
    values = [list(unit.values()) for unit in units]
    annotators = {name for unit in units for name in unit}
    return Agreement(krippendorff_alpha(values, "nominal"), len(units), len(annotators))


def _prompt(task: Row, keys: LabelStudioKeys) -> tuple[Message, ...]:
    data = _data(task)
    if isinstance(data.value.get(keys.prompt), list):
        turns = [part.value for part in data.parts(keys.prompt)]
        return parse_messages(turns, where=data.where)
    return (Message("user", data.text(keys.prompt)),)


def _responses(task: Row, keys: LabelStudioKeys) -> dict[str, str]:
    """The responses by the name that results give them."""
    data = _data(task)
    if keys.items in data.value:
        items = data.parts(keys.items)
        return {str(item.value.get("id")): _item_text(item) for item in items}
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    if len(keys.responses) != len(sides):
        task.refuse(f"a pairwise task has two responses, the keys name {len(keys.responses)}")
    return {side: data.text(key) for side, key in zip(sides, keys.responses, strict=True)}


def _item_text(item: Row) -> str:
    key = next((k for k in ("body", "html", "title") if isinstance(item.value.get(k), str)), None)
    if key is None:
        item.refuse("an item to rank needs a body, html or title")
    return item.text(key)


def _data(task: Row) -> Row:
    data = task.value.get("data")
    if not isinstance(data, dict):
        task.refuse("a task of Label Studio's JSON export has its texts in `data`")
    return Row(data, f"{task.where}, data")


def _judgments(task: Row, responses: dict[str, str]) -> Iterator[Judgment]:
    places = {name: place for place, name in enumerate(responses)}
    for number, annotation in enumerate(task.parts("annotations")):
        if annotation.value.get("was_cancelled"):
            continue
        annotator = _annotator(annotation.value.get("completed_by"), number)
        for result in annotation.parts("result"):
            order = _order(result)
            unknown = [name for name in order if name not in places]
            if unknown:
                result.refuse(f"{unknown[0]!r} is none of the responses: {', '.join(places)}")
            for better, worse in combinations(order, 2):
                yield Judgment(annotator, places[better], places[worse])


def _annotator(completed_by: Any, number: int) -> str:
    """A user's number, or an object about them, depending on the export; else the annotation's."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("id", completed_by.get("email"))
    return f"annotation {number}" if completed_by is None else str(completed_by)


def _order(result: Row) -> list[str]:
    """The responses that a result orders, best first; empty for results of other tags."""
    value = result.value.get("value")
    if not isinstance(value, dict):
        return []
    if result.value.get("type") == "pairwise":
        left = value.get("selected") == "left"
        return ["left", "right"] if left else ["right", "left"]
    if result.value.get("type") == "ranker":
        ranked = value.get("ranker")
        if isinstance(ranked, dict):  # one list under the tag's name; buckets have no order
            lists = list(ranked.values())
            if len(lists) != 1:
                result.refuse("a ranking into buckets is no order of the responses")
            ranked = lists[0]
        return [str(name) for name in ranked or []]
    return []


def _majority(judgments: list[Judgment]) -> list[Pair]:
    ahead: dict[tuple[int, int], int] = {}
    for judgment in judgments:
        pair = (min(judgment.better, judgment.worse), max(judgment.better, judgment.worse))
        ahead[pair] = ahead.get(pair, 0) + (1 if judgment.better < judgment.worse else -1)
    return [
        Pair(first, second, lead) if lead > 0 else Pair(second, first, -lead)
        for (first, second), lead in sorted(ahead.items())
        if lead
    ]
