"""Files of scores: matched by id and order, refused with file and line where they do not fit."""

from __future__ import annotations

import pytest

from eval.rows import read_lines
from eval.score_files import ScoreLine, read_score_line, read_scores
from worldpm.errors import InputError


@pytest.fixture
def items(make_item):
    """Two sources: ids that repeat between domains, and ids of one part."""
    rm_bench = [
        make_item(name, 6, subset=name.partition("/")[0])
        for name in ("chat/8", "chat/12", "code/8")
    ]
    judgebench = [make_item("uuid-1"), make_item("uuid-2")]
    return {
        "rm-bench": {item.item_id: item for item in rm_bench},
        "judgebench": {item.item_id: item for item in judgebench},
    }


def _line(benchmark: str, item_id, scores) -> dict:
    return {"benchmark": benchmark, "id": item_id, "scores": scores}


def test_scores_are_found_by_source_and_id(write_lines, items):
    path = write_lines("scores.jsonl", [_line("judgebench", "uuid-2", [1, 2.5])])
    table = read_scores(path, items)
    assert table.lines["judgebench"]["uuid-2"].scores == (1.0, 2.5)


def test_an_id_may_leave_out_its_domain_where_the_benchmark_says_it(write_lines, items):
    path = write_lines(
        "scores.jsonl",
        [
            _line("rm-bench-chat", 8, [1] * 6),
            _line("rm-bench-code", "8", [2] * 6),
            _line("rm-bench", "12", [3] * 6),
        ],
    )
    found = read_scores(path, items).lines["rm-bench"]
    assert {name: line.scores[0] for name, line in found.items()} == {
        "chat/8": 1,
        "code/8": 2,
        "chat/12": 3,
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (_line("rm-bench", "8", [1] * 6), "ambiguous: write one of chat/8, code/8"),
        (_line("judgebench", "uuid-9", [1, 2]), "no item has the id 'uuid-9'"),
        (_line("judgebench", "uuid-2", [1]), "1 scores for the 2 responses"),
        (_line("judgebench", "uuid-2", [1, "2"]), "finite numbers"),
        (_line("judgebench", "uuid-2", [1, True]), "finite numbers"),
        (_line("judgebench", "uuid-1", [1, 2]), "scored twice"),
        (_line("judgbench", "uuid-2", [1, 2]), "unknown benchmark"),
        ({"benchmark": "judgebench", "scores": [1, 2]}, "the key 'id' is missing"),
    ],
)
def test_a_wrong_line_is_refused_with_file_and_line(write_lines, items, line, reason):
    path = write_lines("scores.jsonl", [_line("judgebench", "uuid-1", [1, 2]), line])
    with pytest.raises(InputError, match=reason) as caught:
        read_scores(path, items)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_a_source_may_be_called_by_its_folder(write_lines, make_item):
    items = {"rewardbench": {"hep-go/Go/17": make_item("hep-go/Go/17", subset="hep-go")}}
    path = write_lines("scores.jsonl", [_line("rewardbench-reconstructed", "Go/17", [1, 0])])
    assert list(read_scores(path, items).lines["rewardbench"]) == ["hep-go/Go/17"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_scores_that_are_no_numbers_are_refused(tmp_path, items, number):
    path = tmp_path / "scores.jsonl"
    path.write_text(f'{{"benchmark": "judgebench", "id": "uuid-1", "scores": [1, {number}]}}\n')
    with pytest.raises(InputError, match="finite"):
        read_scores(path, items)


def test_lines_of_benchmarks_that_are_not_asked_for_are_counted(write_lines, items):
    path = write_lines(
        "scores.jsonl",
        [_line("judgebench", "uuid-1", [1, 2]), _line("pandalm", 0, [1, 2])],
    )
    assert read_scores(path, items).num_unused == 1


def test_a_line_written_is_the_line_read(tmp_path):
    line = ScoreLine("rm-bench", "chat/8", (0.1, -2.0), 17, (3, 4), cut=True)
    path = tmp_path / "items.jsonl"
    path.write_text(line.to_json() + "\n")
    assert [read_score_line(row) for row in read_lines(path)] == [line]
