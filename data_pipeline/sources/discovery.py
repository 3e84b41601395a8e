"""Find the sites of a dump: archives, folders and single files, and say what identifies them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from data_pipeline.sources.archives import ByteSource, list_archive
from worldpm.errors import InputError

# Some copies use lower-case names, and some exports keep deleted posts in a file of another name.
POSTS_FILE = re.compile(r"(posts|postswithdeleted)\.xml(\.gz|\.zst)?", re.IGNORECASE)
# Large sites come as one archive a table: stackoverflow.com-Posts.7z, stackoverflow.com-Votes.7z.
TABLE_ARCHIVE = re.compile(
    r"(?P<host>.+)-(?P<table>Posts|Badges|Comments|PostHistory|PostLinks|Tags|Users|Votes)\.7z"
)
HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# Files up to this size are identified by all their bytes, larger ones by size, date and samples.
FULL_HASH_BYTES = 1 << 30
SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Site:
    """A site of the dump and where its posts are."""

    host: str
    posts: ByteSource

    @property
    def is_meta(self) -> bool:
        """Whether it is a site about a site: a vote there often means agreement, not quality."""
        return is_meta(self.host)


def is_meta(host: str) -> bool:
    """Whether a host is a meta site (`cooking.meta.stackexchange.com`, `meta.askubuntu.com`)."""
    return "meta" in host.split(".")


def find_sites(path: Path) -> list[Site]:
    """The sites under `path`, in the order of their hosts.

    `path` is a folder of `<host>.7z`, `<host>-Posts.7z`, `<host>.xml[.gz|.zst]` and
    `<host>/Posts.xml[.gz|.zst]`, one such folder or file itself.

    Raises:
        InputError: naming every source that cannot be used, or that there is none.
    """
    if not path.exists():
        raise InputError(f"source.path: there is no file or folder {path}")
    found: list[Site] = []
    problems: list[str] = []
    entries = _entries(path)
    for entry in entries:
        try:
            site = _find_site(entry)
        except InputError as exc:
            problems.append(str(exc))
            continue
        if site is not None:
            found.append(site)
    problems += _repeated(found)
    if problems:
        raise InputError("\n".join(problems))
    if not found:
        raise InputError(
            f"{path} holds no site: expected <host>.7z archives or <host>/Posts.xml folders"
        )
    return sorted(found, key=lambda site: site.host)


def identify(source: ByteSource) -> dict[str, Any]:
    """What identifies a file's content, for fingerprints: never its place on this machine."""
    state = source.path.stat()
    return dict(_identify(source.path, state.st_size, state.st_mtime_ns))


@lru_cache(maxsize=4096)
def _identify(path: Path, size: int, modified_ns: int) -> tuple[tuple[str, Any], ...]:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        if size <= FULL_HASH_BYTES:
            while block := file.read(SAMPLE_BYTES):
                digest.update(block)
            return (("bytes", size), ("xxh3_128", digest.hexdigest()))
        for position in (0, size // 2, size - SAMPLE_BYTES):
            file.seek(position)
            digest.update(file.read(SAMPLE_BYTES))
    samples = ("xxh3_128_samples", digest.hexdigest())
    return (("bytes", size), ("modified_ns", modified_ns), samples)


def _entries(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    names = sorted(path.iterdir(), key=lambda entry: entry.name)
    if any(_is_posts(entry) for entry in names) or (
        names and all(entry.suffix == ".xml" and entry.stem in TABLES for entry in names)
    ):
        return [path]
    return [entry for entry in names if not entry.name.startswith(".")]


TABLES = frozenset(
    name
    for table in ("Badges", "Comments", "PostHistory", "PostLinks", "Tags", "Users", "Votes")
    for name in (table, table.lower())
)


def _is_posts(path: Path) -> bool:
    return path.is_file() and POSTS_FILE.fullmatch(path.name) is not None


def _find_site(entry: Path) -> Site | None:
    if entry.is_dir():
        return _from_folder(entry)
    if entry.suffix == ".7z":
        return _from_archive(entry)
    single = re.fullmatch(r"(?P<host>.+?)(?:-Posts)?\.xml(\.gz|\.zst)?", entry.name)
    if single:
        is_bare = _is_posts(entry)
        host = entry.resolve().parent.name if is_bare else single["host"]
        return Site(_checked_host(host, entry), ByteSource(entry))
    return None


def _from_folder(folder: Path) -> Site | None:
    posts = sorted(file for file in folder.iterdir() if _is_posts(file))
    if len(posts) > 1:
        raise InputError(f"{folder} holds {' and '.join(p.name for p in posts)}: keep one of them")
    if posts:
        return Site(_checked_host(folder.resolve().name, folder), ByteSource(posts[0]))
    others = [file.name for file in sorted(folder.iterdir()) if file.suffix == ".xml"]
    if others:
        raise InputError(
            f"{folder} holds {', '.join(others)} but no Posts.xml: add it, or remove the folder"
        )
    return None


def _from_archive(archive: Path) -> Site | None:
    table = TABLE_ARCHIVE.fullmatch(archive.name)
    if table and table["table"] != "Posts":
        return None
    members = [
        name for name in list_archive(archive) if POSTS_FILE.fullmatch(PurePosixPath(name).name)
    ]
    if len(members) != 1:
        found = ", ".join(members) or "none"
        raise InputError(f"{archive} must hold one Posts.xml, found {found}: download it again")
    host = table["host"] if table else archive.name.removesuffix(".7z")
    return Site(_checked_host(host, archive), ByteSource(archive, members[0]))


def _checked_host(host: str, place: Path) -> str:
    if not HOST.fullmatch(host):
        raise InputError(f"{place}: {host!r} cannot be a site's host: rename it to <host>")
    return host


def _repeated(sites: list[Site]) -> list[str]:
    places: dict[str, str] = {}
    problems: list[str] = []
    for site in sites:
        if site.host in places:
            problems.append(
                f"the site {site.host} is there twice, {places[site.host]} and "
                f"{site.posts.label}: remove one"
            )
        places[site.host] = site.posts.label
    return problems
