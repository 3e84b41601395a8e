"""Small dumps in the publisher's format, written by the tests themselves."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from xml.sax.saxutils import quoteattr

import py7zr
import pytest

from data_pipeline.sources import unpackers

Posts = Sequence[dict[str, object]]
VOCABULARY = (
    "coffee grinder water filter burr kettle roast bean extraction pressure scale bloom pour "
    "paper metal steam milk foam tamper basket dose ratio minute gram degree clean descale"
)


def question(post_id: int, **attributes: object) -> dict[str, object]:
    """A question's attributes, overridden by `attributes`."""
    return {
        "Id": post_id,
        "PostTypeId": 1,
        "CreationDate": "2015-03-01T10:00:00.000",
        "Score": 1,
        "Title": f"Question {post_id}?",
        "Tags": "<brewing>",
        "Body": f"<p>{_words(post_id)}</p>",
        "OwnerUserId": post_id * 10,
        **attributes,
    }


def answer(post_id: int, parent: int, score: int, **attributes: object) -> dict[str, object]:
    """An answer's attributes, overridden by `attributes`."""
    return {
        "Id": post_id,
        "PostTypeId": 2,
        "ParentId": parent,
        "CreationDate": "2015-03-02T10:00:00.000",
        "Score": score,
        "Body": f"<p>{_words(post_id)}</p>",
        "OwnerUserId": post_id * 10,
        **attributes,
    }


def _words(seed: int, count: int = 30) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY.split(), k=count)) + f" number {seed}"


def posts_xml(posts: Posts) -> str:
    """A Posts.xml as the publisher writes it."""
    rows = "".join(
        "  <row "
        + " ".join(f"{k}={quoteattr(str(v), {chr(10): '&#xA;'})}" for k, v in post.items())
        + " />\r\n"
        for post in posts
    )
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n{rows}</posts>\r\n'


def many_posts(num_questions: int, num_answers: int = 3, first_id: int = 1) -> Posts:
    """Questions with so many answers each, of different scores."""
    posts: list[dict[str, object]] = []
    post_id = first_id
    for _ in range(num_questions):
        parent = post_id
        posts.append(question(parent, AcceptedAnswerId=parent + 1))
        posts += [answer(parent + i, parent, 3 * i) for i in range(1, num_answers + 1)]
        post_id += num_answers + 1
    return posts


WriteDump = Callable[[dict[str, Posts]], Path]
MAKERS = SimpleNamespace(question=question, answer=answer, many=many_posts)


def write_sites(folder: Path, sites: dict[str, Posts]) -> Path:
    """Write `folder/dump/<host>/Posts.xml` and return the dump's path."""
    dump = folder / "dump"
    for host, posts in sites.items():
        (dump / host).mkdir(parents=True)
        (dump / host / "Posts.xml").write_text(posts_xml(posts), encoding="utf-8", newline="")
    return dump


@pytest.fixture
def posts() -> SimpleNamespace:
    """The makers of posts: `question`, `answer`, `many`."""
    return MAKERS


@pytest.fixture
def write_dump(tmp_path: Path) -> WriteDump:
    """Write a dump of sites and return its path."""
    return lambda sites: write_sites(tmp_path, sites)


@pytest.fixture(scope="module")
def dump_module() -> SimpleNamespace:
    """For dumps that a whole module shares: `posts` and `write(folder, sites)`."""
    return SimpleNamespace(posts=MAKERS, write=write_sites)


def _write_archive(
    path: Path, members: dict[str, bytes], filters: list[dict[str, int]] | None = None
) -> Path:
    with py7zr.SevenZipFile(path, "w", filters=filters) as archive:
        for name, data in members.items():
            archive.writestr(data, name)
    return path


@pytest.fixture
def write_archive() -> Callable[..., Path]:
    """Write a 7z archive of some members, with py7zr's `filters`, and return its path."""
    return _write_archive


@pytest.fixture(params=["py7zr", "7z"])
def unpacker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Without the 7z program, and with it where there is one."""
    if request.param == "py7zr":
        monkeypatch.setattr(unpackers, "PROGRAMS", ())
    elif not any(shutil.which(name) for name in unpackers.PROGRAMS):
        pytest.skip("no 7z program on the PATH")
    return request.param
