"""`worldpm score`: the public format, resumption, whole files only."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from worldpm.cli.score import command
from worldpm.errors import InputError
from worldpm.group_files import write_group_file
from worldpm.schema import Group, Message
from worldpm.scoring import GroupScores
from worldpm.scoring.score_file import score_file


class LengthScorer:
    """Scores a response by its length; stops at a group called `stop`."""

    def __init__(self) -> None:
        self.scored: list[str] = []

    def score(self, groups: list[Group]) -> list[GroupScores]:
        if any(group.group_id == "stop" for group in groups):
            raise KeyboardInterrupt
        self.scored += [group.group_id for group in groups]
        return [
            GroupScores(g.group_id, tuple(float(len(r)) for r in g.responses), 1,
                        tuple(len(r) for r in g.responses), 0, (0,) * len(g.responses))
            for g in groups
        ]  # fmt: skip


class NoProgress:
    def advance(self, amount: int = 1) -> None:
        pass


def write_groups(path: Path, names: list[str]) -> None:
    prompt = (Message("user", "?"),)
    write_group_file(path, [Group(name, prompt, ("a" * len(name), "")) for name in names])


def run(source: Path, target: Path, scorer: LengthScorer, **job: object) -> None:
    score_file(lambda: scorer, source, target, job=job, progress=NoProgress(), chunk_groups=2)


def test_an_interrupted_job_goes_on_and_gives_the_same_file(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_groups(source, ["a", "bb", "ccc", "dd", "e"])
    whole = LengthScorer()
    run(source, tmp_path / "whole.jsonl", whole)

    class Dying(LengthScorer):
        def score(self, groups: list[Group]) -> list[GroupScores]:
            if self.scored:
                raise KeyboardInterrupt
            return super().score(groups)

    with pytest.raises(KeyboardInterrupt):
        run(source, target, Dying())
    assert not target.exists()
    second = LengthScorer()
    run(source, target, second)
    assert second.scored == ["ccc", "dd", "e"]
    assert target.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_an_id_is_repeated_as_it_stands_in_the_input(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    line = {"prompt": [{"role": "user", "content": "?"}], "responses": ["a"]}
    texts = [json.dumps({"id": name, **line}) for name in (7, "7", 8)]
    source.write_text("\n\n".join(texts))
    run(source, target, LengthScorer())
    written = [json.loads(text)["id"] for text in target.read_text().splitlines()]
    assert written == [7, "7", 8]


def test_other_options_or_input_begin_anew(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_groups(source, ["a", "b", "stop"])
    for job in ({"max_tokens": 1}, {"max_tokens": 2}):
        scorer = LengthScorer()
        with pytest.raises(KeyboardInterrupt):
            run(source, target, scorer, **job)
        assert scorer.scored == ["a", "b"]
    write_groups(source, ["a", "b", "c"])
    scorer = LengthScorer()
    run(source, target, scorer, max_tokens=2)
    assert scorer.scored == ["a", "b", "c"]


def test_damage_in_the_middle_leaves_no_output(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_groups(source, ["a", "b", "c"])
    with source.open("a") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(InputError, match=r"in.jsonl:4: the key 'prompt' is missing"):
        run(source, target, LengthScorer())
    assert not target.exists()


def test_the_command_reads_and_writes_the_public_format(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    lines = [
        {"id": "q1", "prompt": [{"role": "user", "content": "Hi"}], "responses": ["a", "b"]},
        {"id": "q2", "prompt": [{"role": "user", "content": "Ho"}], "responses": []},
    ]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("out.jsonl", "out.parquet"):
        arguments = [str(tiny_checkpoint), str(source), str(tmp_path / name)]
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        assert result.exit_code == 0
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in written] == ["q1", "q2"]
    assert [len(line["scores"]) for line in written] == [2, 0]
    assert written[0].keys() == {"id", "scores"}
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == written


def test_a_dry_run_loads_no_model(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        command, [str(tmp_path / "no"), "in.jsonl", "out.jsonl", "--dry-run"]
    )
    assert result.exit_code == 0
    assert "# " in result.output
    assert not (tmp_path / "out.jsonl").exists()


def test_an_unknown_suffix_is_refused_before_scoring(tmp_path: Path) -> None:
    write_groups(tmp_path / "in.jsonl", ["a"])
    with pytest.raises(InputError, match=r"written to \.jsonl and \.parquet"):
        run(tmp_path / "in.jsonl", tmp_path / "out.csv", LengthScorer())
