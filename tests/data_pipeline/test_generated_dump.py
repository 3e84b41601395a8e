"""The made-up dump has the publisher's format, the asked size, and the truth it announces."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

import lxml.etree
import numpy as np
import py7zr
import pyarrow.parquet as pq
import pytest

from data_pipeline.html_text import to_markdown as pipeline_markdown
from data_pipeline.sources.generated import GenerateConfig, generate_dump
from data_pipeline.sources.generated.answers import draft_answer, draw_latent
from data_pipeline.sources.generated.config import WorldSettings
from data_pipeline.sources.generated.questions import draft_question
from data_pipeline.sources.generated.text import to_html, to_markdown
from data_pipeline.sources.generated.world import make_worlds
from worldpm.errors import ConfigError
from worldpm.group_files import read_group_file

NUM_POSTS = 3_000


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("generated") / "dump"
    generate_dump(
        GenerateConfig(
            output_dir=directory, num_posts=NUM_POSTS, archive_format="xml", num_test_items=60
        )
    )
    return directory


def read_rows(path: Path) -> list[dict[str, str]]:
    return [dict(row.attrib) for row in lxml.etree.parse(path).getroot()]


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_posts_have_the_publishers_frame(dump: Path) -> None:
    for path in dump.glob("*/Posts.xml"):
        data = path.read_bytes()
        head = b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n  <row Id="1" '
        assert data.startswith(head)
        assert data.endswith(b" />\r\n</posts>")
        assert data.count(b"\n") == data.count(b"\r\n")


def test_the_asked_number_of_rows_is_written_with_unique_ascending_ids(dump: Path) -> None:
    total = 0
    for path in dump.glob("*/Posts.xml"):
        ids = [int(row["Id"]) for row in read_rows(path)]
        assert ids == list(range(1, len(ids) + 1))
        total += len(ids)
    assert total == NUM_POSTS


def test_attributes_stand_in_the_order_of_the_real_dump(dump: Path) -> None:
    names = (
        "Id PostTypeId ParentId AcceptedAnswerId CreationDate Score ViewCount Body OwnerUserId "
        "OwnerDisplayName LastEditorUserId LastEditDate LastActivityDate Title Tags AnswerCount "
        "CommentCount FavoriteCount ClosedDate CommunityOwnedDate ContentLicense"
    )
    order = [str(name) for name in names.split()]
    for path in dump.glob("*/Posts.xml"):
        for row in read_rows(path):
            places = [order.index(name) for name in row]
            assert places == sorted(places)


def test_answers_name_their_question_and_accepted_answers_exist(dump: Path) -> None:
    for path in dump.glob("*/Posts.xml"):
        rows = {row["Id"]: row for row in read_rows(path)}
        for row in rows.values():
            if row["PostTypeId"] == "2":
                parent = rows[row["ParentId"]]
                assert parent["PostTypeId"] == "1"
                assert parent["CreationDate"] <= row["CreationDate"]
            if accepted := row.get("AcceptedAnswerId"):
                assert rows[accepted]["ParentId"] == row["Id"]
        answers = [row["ParentId"] for row in rows.values() if row["PostTypeId"] == "2"]
        questions = [row for row in rows.values() if row["PostTypeId"] == "1"]
        assert all(int(row["AnswerCount"]) == answers.count(row["Id"]) for row in questions)


def test_votes_add_up_to_the_scores(dump: Path) -> None:
    for path in dump.glob("*/Posts.xml"):
        net = {row["Id"]: 0 for row in read_rows(path)}
        for vote in read_rows(path.with_name("Votes.xml")):
            if vote["PostId"] in net:
                net[vote["PostId"]] += {"2": 1, "3": -1}.get(vote["VoteTypeId"], 0)
        assert all(net[row["Id"]] == int(row["Score"]) for row in read_rows(path))


def test_the_dump_has_what_real_dumps_have(dump: Path) -> None:
    rows = [row for path in dump.glob("*/Posts.xml") for row in read_rows(path)]
    assert {row["PostTypeId"] for row in rows} == {"1", "2", "4", "5"}
    assert any("OwnerUserId" not in row for row in rows)
    assert any("ClosedDate" in row for row in rows)
    assert any("CommunityOwnedDate" in row for row in rows)
    assert any(int(row["Score"]) < 0 for row in rows)
    assert any("<pre><code>" in row["Body"] for row in rows)
    assert any(not row["Body"].isascii() for row in rows)
    assert {row["Tags"][0] for row in rows if "Tags" in row} == {"<", "|"}
    assert {row["ContentLicense"] for row in rows} == {
        f"CC BY-SA {v}" for v in ("2.5", "3.0", "4.0")
    }


def test_the_truth_describes_every_answer(dump: Path) -> None:
    truth = pq.read_table(dump / "truth.parquet").to_pylist()
    scores = {(row["site"], row["answer_id"]): row["up_votes"] - row["down_votes"] for row in truth}
    written = {
        (path.parent.name, int(row["Id"])): int(row["Score"])
        for path in dump.glob("*/Posts.xml")
        for row in read_rows(path)
        if row["PostTypeId"] == "2"
    }
    assert scores == written


def test_votes_follow_quality_but_not_on_the_meta_site(dump: Path) -> None:
    truth = pq.read_table(dump / "truth.parquet").to_pandas()
    net = truth["up_votes"] - truth["down_votes"]
    is_meta = truth["site"].str.contains(".meta.", regex=False)

    def correlation(rows: np.ndarray) -> float:
        ranks = np.log1p(np.maximum(net[rows], 0))
        return float(np.corrcoef(truth["quality"][rows], ranks)[0, 1])

    assert correlation(np.flatnonzero(~is_meta)) > 0.4
    # 3 standard errors of a correlation of zero.
    assert abs(correlation(np.flatnonzero(is_meta))) < 3 / np.sqrt(is_meta.sum())


def test_the_same_settings_give_the_same_bytes_and_another_seed_gives_others(
    tmp_path: Path,
) -> None:
    def make(name: str, seed: int) -> dict[str, str]:
        config = GenerateConfig(
            output_dir=tmp_path / name, num_posts=300, seed=seed, num_test_items=5
        )
        assert generate_dump(config).is_new
        return digests(tmp_path / name)

    first = make("first", 1)
    assert first == make("second", 1)
    other = make("third", 2)
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name != "README.md")


def test_a_whole_dump_of_the_same_settings_is_left_alone(tmp_path: Path) -> None:
    config = GenerateConfig(output_dir=tmp_path / "dump", num_posts=200, num_test_items=2)
    assert generate_dump(config).is_new
    again = generate_dump(config)
    assert not again.is_new
    assert again.num_posts == 200


def test_a_folder_with_other_things_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    for output_dir in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(ConfigError, match="no generated dump"):
            generate_dump(GenerateConfig(output_dir=output_dir, num_posts=200, num_test_items=2))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert generate_dump(GenerateConfig(output_dir=empty, num_posts=200, num_test_items=2)).is_new


def test_archives_are_solid_bzip2_with_the_files_at_their_root(tmp_path: Path) -> None:
    config = GenerateConfig(output_dir=tmp_path / "dump", num_posts=300, num_test_items=2)
    generate_dump(config)
    archives = sorted((tmp_path / "dump").glob("*.7z"))
    assert len(archives) == 4
    for path in archives:
        with py7zr.SevenZipFile(path) as archive:
            info = archive.archiveinfo()
            assert info.method_names == ["BZip2"]
            assert info.solid
            assert set(archive.getnames()) == {"Posts.xml", "Tags.xml", "Users.xml", "Votes.xml"}


@pytest.mark.parametrize("name", ["adversarial", "objective", "subjective"])
def test_test_sets_hold_pairs_on_questions_that_are_not_in_the_dump(dump: Path, name: str) -> None:
    groups = list(read_group_file(dump / "test_sets" / f"{name}.jsonl"))
    assert len(groups) == 60
    chosen = [group.pairs[0].chosen for group in groups]
    assert 15 < sum(chosen) < 45  # the place of the better answer tells nothing
    titles = {
        row["Title"] + row["Body"]
        for path in dump.glob("*/Posts.xml")
        for row in read_rows(path)
        if "Title" in row
    }
    for group in groups:
        title, *paragraphs = group.prompt[0].content.split("\n\n")
        assert title + "".join(f"<p>{text}</p>\n" for text in paragraphs) not in titles


def test_the_test_sets_read_as_the_pipeline_would_write_them() -> None:
    rng = Random(3)
    world = make_worlds(WorldSettings(), seed=17)[0]
    for _ in range(300):
        question = draft_question(world, rng)
        answer = draft_answer(question, draw_latent(0.0, rng), rng)
        for blocks in (question.blocks, answer):
            assert pipeline_markdown(to_html(blocks))[0] == to_markdown(blocks)


def test_the_adversarial_sets_wrong_answers_are_longer(dump: Path) -> None:
    for group in read_group_file(dump / "test_sets" / "adversarial.jsonl"):
        pair = group.pairs[0]
        assert len(group.responses[pair.rejected]) > len(group.responses[pair.chosen])


def test_objective_answers_differ_in_one_value_only(dump: Path) -> None:
    for group in read_group_file(dump / "test_sets" / "objective.jsonl"):
        first, second = (set(text.split()) for text in group.responses)
        assert len(first ^ second) <= 4
        assert first != second
