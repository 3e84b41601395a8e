"""Label Studio's exports become groups by majority, with the annotators' agreement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.import_groups import ImportConfig, import_groups
from data_pipeline.sources.preference_sets import Dropped, ImportSource, read_preference_set
from data_pipeline.sources.preference_sets.label_studio import LabelStudioKeys, measure_agreement
from worldpm.artifacts import read_json
from worldpm.errors import InputError
from worldpm.schema import Group, Message, Pair


def annotation(annotator: Any, result: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": 1001,
        "completed_by": annotator,
        "result": [{"id": "Dx_a", "from_name": "tag", "to_name": "list", **result}],
        "was_cancelled": False,
        "ground_truth": False,
        "lead_time": 4.288,
        **fields,
    }


def choice(side: str) -> dict[str, Any]:
    return {"type": "pairwise", "value": {"selected": side}}


def ranking(*names: str, tag: str | None = None) -> dict[str, Any]:
    return {"type": "ranker", "value": {"ranker": {tag: list(names)} if tag else list(names)}}


def pairwise_task(number: int, *annotations: dict[str, Any]) -> dict[str, Any]:
    data = {"prompt": "Why?", "response_1": "Because.", "response_2": "No."}
    return {"id": number, "data": data, "annotations": list(annotations), "predictions": []}


def write(tmp_path: Path, *tasks: dict[str, Any]) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def read(path: Path) -> list[Group | Dropped]:
    source = ImportSource(path=path, format="label_studio", name="studio")
    return list(read_preference_set(source, seed=0))


def test_the_majority_decides_and_the_margin_is_its_lead(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        pairwise_task(1, *(annotation(n, choice("right")) for n in (1, 2, 3))),
        pairwise_task(2, annotation(1, choice("left")), annotation(2, choice("right"))),
        pairwise_task(3, annotation(1, choice("left"), was_cancelled=True)),
    )
    first, *others = read(path)
    assert first == Group(
        "studio/1", (Message("user", "Why?"),), ("Because.", "No."), (Pair(1, 0, margin=3),)
    )
    reasons = [item.reason for item in others if isinstance(item, Dropped)]
    assert reasons == ["equal_ratings", "not_annotated"]


def test_a_ranking_gives_all_its_comparisons(tmp_path: Path) -> None:
    items = [{"id": name, "title": name, "body": f"text {name}"} for name in ("a", "b", "c")]
    task = {
        "id": 7,
        "data": {"prompt": [{"role": "user", "content": "Why?"}], "items": items},
        "annotations": [
            annotation({"id": 1, "email": "x@y.example"}, ranking("c", "a", "b")),
            annotation({"id": 2, "email": "z@y.example"}, ranking("c", "b", "a", tag="rank")),
        ],
    }
    group = read(write(tmp_path, task))[0]
    assert isinstance(group, Group)
    assert group.responses == ("text a", "text b", "text c")
    assert group.pairs == (Pair(2, 0, margin=2), Pair(2, 1, margin=2))


def test_agreement_counts_comparisons_of_two_annotators(tmp_path: Path) -> None:
    agreeing = [
        pairwise_task(n, *(annotation(who, choice(side)) for who in (1, 2)))
        for n, side in enumerate(["left", "right", "left"])
    ]
    alone = pairwise_task(9, annotation(3, choice("left")))
    agreement = measure_agreement(write(tmp_path, *agreeing, alone), LabelStudioKeys())
    assert (agreement.alpha, agreement.num_comparisons, agreement.num_annotators) == (1.0, 4, 3)


def test_the_import_writes_the_agreement_beside_the_groups(tmp_path: Path) -> None:
    path = write(tmp_path, pairwise_task(1, annotation(1, choice("left"))))
    source = ImportSource(path=path, format="label_studio")
    import_groups(ImportConfig(source=source, output=tmp_path / "groups.jsonl"))
    assert read_json(tmp_path / "groups.counts.json")["agreement"] == {
        "alpha": None,
        "num_comparisons": 1,
        "num_annotators": 1,
    }
    card = (tmp_path / "groups.card.md").read_text()
    assert "Krippendorff's α unknown" in card


def test_the_data_card_says_how_far_the_annotators_agree(tmp_path: Path) -> None:
    # One contradiction in three tasks, left and right said thrice each: α = 1 − (2/6) / (18/30).
    sides = [("left", "right"), ("left", "left"), ("right", "right")]
    tasks = [
        pairwise_task(n, annotation(1, choice(first)), annotation(2, choice(second)))
        for n, (first, second) in enumerate(sides)
    ]
    source = ImportSource(path=write(tmp_path, *tasks), format="label_studio", licence="CC0")
    import_groups(ImportConfig(source=source, output=tmp_path / "groups.jsonl"))
    card = (tmp_path / "groups.card.md").read_text()
    assert "Krippendorff's α 0.444 (" in card
    assert "3 comparisons by 2 annotators" in card
    assert "2 preference pairs among 4 responses to 2 prompts" in card
    assert "licence: CC0" in card
    assert "| dropped: equal_ratings | 1 |" in card


def test_wrong_exports_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"entry 0, data: response_1 must be a text"):
        read(write(tmp_path, {"id": 1, "data": {"prompt": "Why?"}, "annotations": []}))
    items = [{"id": "a", "body": "x"}, {"id": "b", "body": "y"}]
    task = {"id": 1, "data": {"prompt": "Why?", "items": items}}
    unknown = {**task, "annotations": [annotation(1, ranking("a", "zzz"))]}
    with pytest.raises(InputError, match="'zzz' is none of the responses"):
        read(write(tmp_path, unknown))
    buckets = {"type": "ranker", "value": {"ranker": {"good": ["a"], "bad": ["b"]}}}
    with pytest.raises(InputError, match="buckets"):
        read(write(tmp_path, {**task, "annotations": [annotation(1, buckets)]}))
