"""Every container of posts gives the same bytes; what is unsafe or broken is named."""

from __future__ import annotations

import gzip
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest
import zstandard

from data_pipeline.sources import archives
from data_pipeline.sources.archives import ByteSource
from data_pipeline.sources.discovery import find_sites, identify, is_meta
from data_pipeline.sources.unpackers import DamagedArchiveError
from worldpm.errors import InputError

BODY = b"<posts>" + b"".join(b'<row Id="%d" />\n' % i for i in range(20_000)) + b"</posts>"


CHUNK = 64 * 1024


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(archives, "READ_BYTES", CHUNK // 4)


@pytest.mark.usefixtures("unpacker")
def test_an_archive_of_a_site_gives_its_posts_in_equal_chunks(
    write_archive: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_archive(tmp_path / "a.b.7z", {"Badges.xml": b"x" * 99999, "Posts.xml": BODY * 9})
    (site,) = find_sites(tmp_path)
    assert (site.host, site.posts) == ("a.b", ByteSource(path, "Posts.xml"))
    chunks = list(site.posts.chunks())
    assert b"".join(chunks) == BODY * 9
    assert {len(chunk) for chunk in chunks[:-1]} == {CHUNK}


def test_compressed_and_plain_files_give_the_same_bytes(tmp_path: Path) -> None:
    files = {
        "a.x.xml": BODY,
        "b.x.xml.gz": gzip.compress(BODY, 1),
        "c.x.xml.zst": zstandard.compress(BODY),
        "d.x/Posts.xml.gz": gzip.compress(BODY, 1),
        "e.x/posts.xml": BODY,
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    sites = find_sites(tmp_path)
    assert [site.host for site in sites] == ["a.x", "b.x", "c.x", "d.x", "e.x"]
    assert all(b"".join(site.posts.chunks()) == BODY for site in sites)


def test_only_the_posts_archive_of_a_large_site_is_read(
    write_archive: Callable[..., Path], tmp_path: Path
) -> None:
    write_archive(tmp_path / "stackoverflow.com-Posts.7z", {"Posts.xml": b"<posts/>"})
    (tmp_path / "stackoverflow.com-Votes.7z").write_bytes(b"never opened")
    (site,) = find_sites(tmp_path)
    assert site.host == "stackoverflow.com"


def test_a_folder_or_file_of_one_site_is_a_source_too(tmp_path: Path) -> None:
    folder = tmp_path / "beer.stackexchange.com"
    folder.mkdir()
    (folder / "Posts.xml").write_bytes(b"<posts/>")
    hosts = [find_sites(path)[0].host for path in (folder, folder / "Posts.xml", tmp_path)]
    assert hosts == ["beer.stackexchange.com"] * 3


@pytest.mark.parametrize("suffix", [".xml.gz", ".xml.zst"])
def test_a_cut_file_gives_what_is_whole_and_then_says_so(tmp_path: Path, suffix: str) -> None:
    whole = gzip.compress(BODY, 1) if suffix == ".xml.gz" else zstandard.compress(BODY, 1)
    (tmp_path / f"a.b{suffix}").write_bytes(whole[: len(whole) // 2])
    received = bytearray()
    chunks = find_sites(tmp_path)[0].posts.chunks()
    if suffix == ".xml.gz":  # zstd ends without an error; the missing closing tag tells
        with pytest.raises(DamagedArchiveError):
            for chunk in chunks:
                received += chunk
    else:
        received += b"".join(chunks)
    assert 0 < len(received) < len(BODY)
    assert BODY.startswith(received)


@pytest.mark.usefixtures("unpacker")
@pytest.mark.parametrize("name", ["BZIP2", "LZMA2"])
@pytest.mark.parametrize("num_bytes", [1, 64])
def test_a_damaged_archive_gives_what_is_whole_and_then_says_so(
    write_archive: Callable[..., Path], tmp_path: Path, name: str, num_bytes: int
) -> None:
    """A program puts out up to a block of nonsense before it notices: no row may come of it."""
    draw = random.Random(0)
    words = [f"{draw.getrandbits(40):x}" for _ in range(5_000)]
    body = " ".join(draw.choices(words, k=500_000)).encode()
    filters = {"id": getattr(py7zr, f"FILTER_{name}")} | ({"preset": 1} if name == "LZMA2" else {})
    path = write_archive(tmp_path / "a.b.7z", {"Posts.xml": body}, [filters])
    data = bytearray(path.read_bytes())
    place = len(data) * 3 // 4
    data[place : place + num_bytes] = bytes(byte ^ 0x55 for byte in data[place:][:num_bytes])
    path.write_bytes(data)
    received = bytearray()
    with pytest.raises(DamagedArchiveError):
        for chunk in find_sites(tmp_path)[0].posts.chunks():
            received += chunk
    assert body.startswith(received)
    # A block of BZip2, or the piece that broke, may be missing before the damage too.
    assert len(received) > len(body) * 3 // 4 - 2 * archives.UNSURE_BYTES


@pytest.mark.parametrize("name", ["../Posts.xml", "/tmp/Posts.xml", "a/../../Posts.xml"])
def test_a_path_that_leads_out_of_the_archive_is_refused(
    write_archive: Callable[..., Path], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # py7zr does not write such names itself, so what it lists is what is changed.
    path = write_archive(tmp_path / "a.b.7z", {"Posts.xml": b"<posts/>"})
    with py7zr.SevenZipFile(path) as archive:
        entries = archive.list()
    entries[0].filename = name
    monkeypatch.setattr(py7zr.SevenZipFile, "list", lambda _: entries)
    with pytest.raises(InputError, match="leads out of the archive"):
        find_sites(tmp_path)


def test_every_wrong_source_is_named_at_once(
    write_archive: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "a.b.7z").write_bytes(b"PK\x03\x04 a zip")
    (tmp_path / "c.d.7z").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (tmp_path / "e.f").mkdir()
    (tmp_path / "e.f" / "Votes.xml").write_bytes(b"<votes/>")
    write_archive(tmp_path / "g.h.7z", {"Users.xml": b"<users/>"})
    with pytest.raises(InputError) as caught:
        find_sites(tmp_path)
    message = str(caught.value)
    for part in ("a.b.7z is not a 7z", "c.d.7z is a Git LFS", "no Posts.xml", "g.h.7z must hold"):
        assert part in message


def test_a_cut_archive_is_named(write_archive: Callable[..., Path], tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.b.7z", {"Posts.xml": BODY})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"a\.b\.7z is a damaged 7z"):
        find_sites(tmp_path)


def test_a_site_that_is_there_twice_is_refused(
    write_archive: Callable[..., Path], tmp_path: Path
) -> None:
    write_archive(tmp_path / "a.b.7z", {"Posts.xml": b"<posts/>"})
    (tmp_path / "a.b").mkdir()
    (tmp_path / "a.b" / "Posts.xml").write_bytes(b"<posts/>")
    with pytest.raises(InputError, match="there twice"):
        find_sites(tmp_path)


@pytest.mark.parametrize("make", [False, True])
def test_a_missing_or_empty_dump_is_named(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "dump").mkdir()
    with pytest.raises(InputError, match="dump"):
        find_sites(tmp_path / "dump")


def test_a_file_is_identified_by_its_content_not_its_place(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    first = tmp_path / "one" / "Posts.xml"
    first.write_bytes(BODY)
    second = tmp_path / "a.b.xml"
    shutil.copyfile(first, second)
    assert identify(ByteSource(first)) == identify(ByteSource(second))
    second.write_bytes(BODY[:-1] + b" ")
    assert identify(ByteSource(first)) != identify(ByteSource(second))


def test_meta_sites_are_told_by_their_host() -> None:
    hosts = ["meta.stackexchange.com", "beer.meta.stackexchange.com", "metal.stackexchange.com"]
    assert [is_meta(host) for host in hosts] == [True, True, False]
