"""`results.json`: what is measured, what is missing, and numbers that agree with each other."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from eval.aggregation import AggregationSettings
from eval.averaging import outcome_weights
from eval.benchmarks import BENCHMARKS
from eval.catalog import load_catalog
from eval.results import COMPOSITES, summarise
from eval.score_files import ScoreLine, read_scores
from worldpm.errors import InputError

SETTINGS = AggregationSettings(num_bootstrap=200)
DOMAINS = {"chat": 12, "code": 16}


@pytest.fixture
def data_dir(tmp_path: Path, write_array, write_lines) -> Path:
    """RM-Bench in two domains and EvalBiasBench, made up."""
    for domain, count in DOMAINS.items():
        rows = [
            {
                "id": index,
                "prompt": f"{domain} {index}",
                "chosen": [f"right {index}", f"right {index} plainly", f"**right** {index}"],
                "rejected": [f"wrong {index}", f"wrong {index} plainly", f"# wrong\n- {index}"],
            }
            for index in range(count)
        ]
        write_array(f"data/rm-bench/{domain}_filtered.json", rows)
    biases = {
        "length bias": [
            {
                "instruction": f"i{index}",
                "response1": "good",
                "response2": "bad" * (index + 1),
                "label": 1,
            }
            for index in range(12)
        ]
    }
    path = tmp_path / "data" / "evalbiasbench" / "biasbench.json"
    path.parent.mkdir()
    path.write_text(json.dumps(biases))
    return tmp_path / "data"


NAMES = ("rm-bench", "rm-bench-chat", "rm-bench-math", "evalbiasbench", "autoj")


def _scores(data_dir: Path, **changes: Any) -> dict[str, dict[str, ScoreLine]]:
    catalog = load_catalog(NAMES, data_dir)
    return {
        source: {
            name: ScoreLine(source, name, tuple(float("right" in t) for t in item.responses))
            for name, item in items.items()
        }
        for source, items in catalog.items.items()
    }


def test_a_whole_evaluation_reports_every_key_of_the_interface(data_dir: Path):
    results = summarise(load_catalog(NAMES, data_dir), _scores(data_dir), SETTINGS)
    benchmarks = results.report["benchmarks"]
    assert set(benchmarks) == {"rm-bench", "rm-bench-chat", "evalbiasbench"}
    for blocks in benchmarks.values():
        assert set(blocks) == {"official", "worldpm"}
        for block in blocks.values():
            assert {
                "accuracy",
                "standard_error",
                "interval",
                "bt_loss",
                "num_items",
                "num_ties",
                "length_baseline",
                "subsets",
            } <= set(block)
    assert benchmarks["rm-bench"]["official"]["accuracy"] == 1
    assert benchmarks["rm-bench"]["official"]["num_items"] == 28
    assert benchmarks["rm-bench"]["worldpm"]["bt_loss"] == pytest.approx(math.log1p(math.exp(-1)))
    # Every response of EvalBiasBench scores 0 here.
    assert benchmarks["evalbiasbench"]["official"]["num_ties"] == 12
    json.dumps(results.report, allow_nan=False)


def test_what_is_missing_is_listed_with_its_reason(data_dir: Path):
    missing = summarise(load_catalog(NAMES, data_dir), _scores(data_dir), SETTINGS).report[
        "missing"
    ]
    reasons = {one["name"]: one["reason"] for one in missing}
    assert set(reasons) == {"rm-bench-math", "autoj"}
    assert "holds nothing of math" in reasons["rm-bench-math"]


def test_a_part_of_a_suite_says_so(data_dir: Path):
    report = summarise(load_catalog(NAMES, data_dir), _scores(data_dir), SETTINGS).report
    assert report["details"]["rm-bench"]["complete"] is False
    assert report["benchmarks"]["rm-bench"]["official"]["missing_sections"] == [
        "math",
        "safety-refuse",
        "safety-response",
    ]


def test_half_a_subset_is_refused_unless_allowed(data_dir: Path):
    scores = _scores(data_dir)
    del scores["rm-bench"]["code/3"]
    catalog = load_catalog(["rm-bench"], data_dir)
    with pytest.raises(InputError, match=r"1 of 28 items have no score, the first is code/3"):
        summarise(catalog, scores, SETTINGS)
    report = summarise(catalog, scores, SETTINGS, allow_missing=True).report
    assert report["benchmarks"]["rm-bench"]["official"]["num_items"] == 27


def test_a_whole_subset_may_be_left_out(data_dir: Path):
    scores = _scores(data_dir)
    scores["rm-bench"] = {k: v for k, v in scores["rm-bench"].items() if k.startswith("chat")}
    report = summarise(load_catalog(NAMES, data_dir), scores, SETTINGS).report
    assert "code" in report["benchmarks"]["rm-bench"]["official"]["missing_sections"]


def test_no_scores_at_all_is_refused(data_dir: Path):
    empty = {"rm-bench": {}, "evalbiasbench": {}}
    with pytest.raises(InputError, match="none of this suite's benchmarks"):
        summarise(load_catalog(NAMES, data_dir), empty, SETTINGS)


def test_the_stored_outcomes_add_up_to_the_reported_accuracy(data_dir: Path):
    scores = _scores(data_dir)
    # Some wrong, some tied.
    for index, line in enumerate(list(scores["rm-bench"].values())):
        changed = line.scores[::-1] if index % 3 == 0 else (1.0,) * 6 if index % 3 == 1 else None
        if changed:
            scores["rm-bench"][line.id] = ScoreLine("rm-bench", line.id, changed)
    results = summarise(load_catalog(NAMES, data_dir), scores, SETTINGS)
    table = results.outcomes.to_pylist()
    for name, blocks in results.report["benchmarks"].items():
        for protocol, block in blocks.items():
            rows = [r for r in table if (r["benchmark"], r["protocol"]) == (name, protocol)]
            assert sum(r["weight"] * r["credit"] for r in rows) == pytest.approx(block["accuracy"])
            assert sum(r["weight"] * r["size"] for r in rows) == pytest.approx(1)
            assert len(rows) == block["num_items"]


def test_scores_moved_and_stretched_change_loss_and_temperature_but_no_accuracy(data_dir: Path):
    plain = _scores(data_dir)
    moved = {
        source: {
            name: ScoreLine(source, name, tuple(10 * score - 3 for score in line.scores))
            for name, line in lines.items()
        }
        for source, lines in plain.items()
    }
    catalog = load_catalog(NAMES, data_dir)
    first, second = (summarise(catalog, one, SETTINGS).report for one in (plain, moved))
    for name in first["benchmarks"]:
        before, after = (
            first["benchmarks"][name]["official"],
            second["benchmarks"][name]["official"],
        )
        assert before["accuracy"] == after["accuracy"]
        assert before["interval"] == after["interval"]
    before, after = (r["benchmarks"]["rm-bench"]["worldpm"]["bt_loss"] for r in (first, second))
    assert after < before


def test_the_length_baseline_does_not_depend_on_the_scores(data_dir: Path):
    report = summarise(load_catalog(NAMES, data_dir), _scores(data_dir), SETTINGS).report
    # "bad" is shorter than "good" once; "badbad…" is longer.
    assert report["benchmarks"]["evalbiasbench"]["official"]["length_baseline"] == pytest.approx(
        1 / 12
    )
    assert report["benchmarks"]["evalbiasbench"]["official"]["shorter_baseline"] == pytest.approx(
        11 / 12
    )
    # Markdown stands on the rejected side only in style 3: bold chosen, header and list rejected.
    assert report["benchmarks"]["rm-bench-chat"]["worldpm"]["markdown_baseline"] == 0


def test_a_file_of_scores_gives_the_same_report_as_the_run(data_dir: Path, tmp_path: Path):
    catalog = load_catalog(NAMES, data_dir)
    scores = _scores(data_dir)
    path = tmp_path / "items.jsonl"
    path.write_text(
        "".join(line.to_json() + "\n" for lines in scores.values() for line in lines.values())
    )
    again = read_scores(path, catalog.items)
    first = summarise(catalog, scores, SETTINGS).report
    assert summarise(catalog, again.lines, SETTINGS).report == first


def test_ppe_correctness_is_the_mean_of_its_five_sets(tmp_path: Path, write_lines):
    names = COMPOSITES["ppe-correctness"]
    for index, name in enumerate(names):
        rows = [
            {
                **{f"response_{i + 1}": f"r{i}" for i in range(32)},
                "question_id": question,
                "model_name": "gpt-4o-mini",
                "prompt": f"{name} {question}",
                "scores": [i == 0 for i in range(32)],
                "sampled_conflict_pairs": [[0, 1]],
            }
            for question in range(10)
        ]
        write_lines(f"data/ppe/{name.removeprefix('ppe-')}/train.jsonl", rows)
        # The first `index` sets of scores are all wrong.
        right = float(index >= 2)
        scores = [right, 0.5] + [0.0] * 30
        write_lines(
            f"scores-{index}.jsonl",
            [{"benchmark": name, "id": question, "scores": scores} for question in range(10)],
        )
    catalog = load_catalog(names, tmp_path / "data")
    path = tmp_path / "scores.jsonl"
    path.write_text("".join((tmp_path / f"scores-{i}.jsonl").read_text() for i in range(5)))
    report = summarise(catalog, read_scores(path, catalog.items).lines, SETTINGS).report
    assert report["composites"]["ppe-correctness"]["accuracy"] == pytest.approx(3 / 5)


@pytest.mark.parametrize("name", ["llmbar", "rewardbench", "rm-bench", "rmb"])
def test_outcome_weights_sum_to_one_for_any_part_of_a_suite(name, make_scored):
    protocol = BENCHMARKS[name][1].official
    subset = protocol.sections[0].subsets[0]
    outcomes = protocol.outcomes(make_scored((1, 0), (0, 1), (1, 1), subset=subset))
    weights = outcome_weights(outcomes, protocol.sections)
    assert weights @ [one.size for one in outcomes] == pytest.approx(1)
