"""Curation removes planted label noise; the least sure groups go to the annotators."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from data_pipeline.annotation_tasks import AnnotationConfig, write_annotation_tasks
from data_pipeline.curation import CurationConfig, curate, judge
from data_pipeline.sources.preference_sets import ImportSource, read_preference_set
from worldpm.errors import InputError
from worldpm.group_files import read_group_file, write_group_file
from worldpm.schema import Group, Message, Pair


def group(number: int, *pairs: Pair, num_responses: int = 2) -> Group:
    responses = tuple(f"answer {place}" for place in range(num_responses))
    return Group(f"g/{number}", (Message("user", f"question {number}"),), responses, pairs)


def write_scores(path: Path, groups: Sequence[Group], scores: Sequence[Sequence[float]]) -> Path:
    lines = [
        json.dumps({"id": group.group_id, "scores": list(row)})
        for group, row in zip(groups, scores, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_all_models_must_agree() -> None:
    pair = Pair(0, 1)
    assert judge(pair, [(2.0, 1.0), (0.5, 0.0)], 0.5, 0.0) == "keep"
    assert judge(pair, [(2.0, 1.0), (0.0, 0.5)], 0.5, 0.4) == "unsure"
    assert judge(pair, [(0.0, 3.0), (0.0, 2.0)], 0.5, 0.2) == "flip"
    assert judge(pair, [(0.0, 3.0), (0.0, 2.0)], 0.5, 0.1) == "unsure"
    assert judge(pair, [(0.0, 1e6)], 0.5, 0.0) == "unsure"
    assert judge(pair, [(1.0, 1.0)], 0.5, 0.0) == "unsure"


def test_the_swapped_pair_gets_the_opposite_verdict() -> None:
    scores = [(0.3, 1.9), (-0.5, 4.0)]
    assert judge(Pair(0, 1), scores, 0.7, 0.3) == "flip"
    assert judge(Pair(0, 1).swap(), scores, 0.7, 0.3) == "keep"


def planted(tmp_path: Path, noise: float, accuracy: float) -> tuple[Path, Path]:
    """Answer 0 is truly better; labels are wrong with `noise`, the model right with `accuracy`."""
    rng = Random(7)
    groups = [
        group(number, Pair(1, 0) if rng.random() < noise else Pair(0, 1)) for number in range(4000)
    ]
    scores = [(3.0, 0.0) if rng.random() < accuracy else (0.0, 3.0) for _ in groups]
    path = tmp_path / "groups.jsonl"
    write_group_file(path, groups)
    return path, write_scores(tmp_path / "scores.jsonl", groups, scores)


@pytest.mark.parametrize("flip_below", [0.0, 0.2])
def test_planted_noise_falls_as_bayes_rule_says(tmp_path: Path, flip_below: float) -> None:
    noise, accuracy = 0.3, 0.8
    groups, scores = planted(tmp_path, noise, accuracy)
    output = tmp_path / "curated.jsonl"
    counts = curate(
        CurationConfig(groups=groups, scores={"m": scores}, output=output, flip_below=flip_below)
    )
    kept = list(read_group_file(output))
    wrong = sum(item.pairs[0].chosen == 1 for item in kept) / len(kept)
    agreeing = (1 - noise) * accuracy + noise * (1 - accuracy)
    if flip_below:
        # Every pair follows the model in the end, so it is wrong as often as the model.
        assert len(kept) == counts.pairs.rows_in
        assert wrong == pytest.approx(1 - accuracy, abs=0.02)
        assert counts.num_flipped / len(kept) == pytest.approx(1 - agreeing, abs=0.03)
    else:
        assert wrong == pytest.approx(noise * (1 - accuracy) / agreeing, abs=0.02)
        assert counts.pairs.rows_out / counts.pairs.rows_in == pytest.approx(agreeing, abs=0.03)
        assert counts.pairs.dropped == {"not_confirmed": counts.pairs.rows_in - len(kept)}


def test_groups_and_scores_must_belong_together(tmp_path: Path) -> None:
    groups = [group(1, Pair(0, 1)), group(2, Pair(0, 1))]
    path = tmp_path / "groups.jsonl"
    write_group_file(path, groups)

    def run(scored: Sequence[Group], scores: Sequence[Sequence[float]]) -> None:
        file = write_scores(tmp_path / "s.jsonl", scored, scores)
        curate(CurationConfig(groups=path, scores={"m": file}, output=tmp_path / "o.jsonl"))

    with pytest.raises(InputError, match=r"expected the scores of group g/1, found g/2"):
        run(groups[::-1], [(1, 0), (1, 0)])
    with pytest.raises(InputError, match="ends before group g/2"):
        run(groups[:1], [(1, 0)])
    with pytest.raises(InputError, match="goes on after the last group"):
        run([*groups, groups[0]], [(1, 0)] * 3)
    with pytest.raises(InputError, match="2 responses"):
        run(groups, [(1, 0), (1, 0, 3)])
    with pytest.raises(InputError, match="finite"):
        run(groups, [(1, 0), (1, float("nan"))])
    with pytest.raises(InputError, match="no pair is confirmed"):
        run(groups, [(0, 1), (0, 1)])
    assert not (tmp_path / "o.jsonl").exists()


def test_the_closest_comparisons_become_tasks_and_come_back(tmp_path: Path) -> None:
    groups = [group(number, num_responses=3) for number in range(3)]
    path = tmp_path / "groups.jsonl"
    write_group_file(path, groups)
    scores = [(0.0, 5.0, 1.0), (2.0, 0.0, 2.5), (1.0, 0.0, 0.9)]
    config = AnnotationConfig(
        groups=path,
        scores=write_scores(tmp_path / "scores.jsonl", groups, scores),
        output=tmp_path / "tasks.json",
        num_groups=2,
    )
    assert write_annotation_tasks(config) == 2
    tasks: list[dict[str, Any]] = json.loads(config.output.read_text())
    assert [task["data"]["group_id"] for task in tasks] == ["g/2", "g/1"]
    assert tasks[1]["data"]["response_1"] == "answer 0"
    assert tasks[1]["data"]["response_2"] == "answer 2"
    for task in tasks:
        result = {"type": "pairwise", "value": {"selected": "right"}}
        task["annotations"] = [{"completed_by": 1, "result": [result]}]
    config.output.write_text(json.dumps(tasks))
    source = ImportSource(path=config.output, format="label_studio")
    back = list(read_preference_set(source, seed=0))
    assert [item.pairs for item in back if isinstance(item, Group)] == [(Pair(1, 0),)] * 2
