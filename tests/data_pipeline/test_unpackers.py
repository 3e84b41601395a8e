"""The 7z program and py7zr give the same bytes of an archive's member, whatever its method."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest

from data_pipeline.sources import unpackers
from data_pipeline.sources.discovery import find_sites
from data_pipeline.sources.unpackers import unpack_member

BODY = b"<posts>" + b"".join(b'<row Id="%d" />\n' % i for i in range(20_000)) + b"</posts>"
CHUNK = 64 * 1024


@pytest.mark.parametrize(
    "method", [py7zr.FILTER_LZMA2, py7zr.FILTER_BZIP2, py7zr.FILTER_LZMA, py7zr.FILTER_ZSTD]
)
@pytest.mark.usefixtures("unpacker")
def test_a_member_streams_out_of_an_archive_of_any_method(
    write_archive: Callable[..., Path], tmp_path: Path, method: int
) -> None:
    filters = [{"id": method} if method != py7zr.FILTER_ZSTD else {"id": method, "level": 3}]
    path = write_archive(
        tmp_path / "a.b.7z", {"Badges.xml": b"x" * 99999, "Posts.xml": BODY}, filters
    )
    assert b"".join(unpack_member(path, "Posts.xml", CHUNK)) == BODY


@pytest.mark.usefixtures("unpacker")
def test_a_reader_that_stops_early_ends_the_extraction(
    write_archive: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_archive(tmp_path / "a.b.7z", {"Posts.xml": BODY * 5})
    num_threads = threading.active_count()
    pieces = unpack_member(path, "Posts.xml", CHUNK)
    assert len(next(pieces)) >= CHUNK
    pieces.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert threading.active_count() == num_threads


@pytest.mark.shared_data
def test_the_program_and_the_package_give_the_same_bytes(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any(shutil.which(name) for name in unpackers.PROGRAMS):
        pytest.skip("no 7z program on the PATH")
    sites = find_sites(shared_data / "stackexchange")
    by_program = [b"".join(site.posts.chunks()) for site in sites]
    monkeypatch.setattr(unpackers, "PROGRAMS", ())
    assert all(
        b"".join(site.posts.chunks()) == data for site, data in zip(sites, by_program, strict=True)
    )


def test_a_member_whose_name_looks_like_a_pattern_is_taken_literally(
    write_archive: Callable[..., Path], tmp_path: Path, unpacker: str
) -> None:
    members = {"*/Posts.xml": b"<posts>one</posts>", "a/posts.XML.bak": b"<posts>two</posts>"}
    path = write_archive(tmp_path / "a.b.7z", members)
    assert b"".join(unpack_member(path, "*/Posts.xml", CHUNK)) == b"<posts>one</posts>", unpacker
