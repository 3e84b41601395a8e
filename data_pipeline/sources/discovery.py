"""Find the sites of a dump: archives, folders and single files, and say what identifies them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

from data_pipeline.sources.archives import ByteSource, StoredSource, list_archive
from worldpm.errors import InputError
from worldpm.object_store import ObjectFolder, StoredFile

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


DumpFile = Path | StoredFile
"""A file of the dump, on a disk or in an object store."""


@dataclass(frozen=True, slots=True)
class Site:
    """A site of the dump and where its posts are."""

    host: str
    posts: ByteSource | StoredSource

    @property
    def is_meta(self) -> bool:
        """Whether it is a site about a site: a vote there often means agreement, not quality."""
        return is_meta(self.host)


def is_meta(host: str) -> bool:
    """Whether a host is a meta site (`cooking.meta.stackexchange.com`, `meta.askubuntu.com`)."""
    return "meta" in host.split(".")


def find_sites(location: Path | str) -> list[Site]:
    """The sites at a path or URL, in the order of their hosts.

    It is a folder of `<host>.7z`, `<host>-Posts.7z`, `<host>.xml[.gz|.zst]` and
    `<host>/Posts.xml[.gz|.zst]`, one such folder or file itself.

    Raises:
        InputError: naming every source that cannot be used, or that there is none.
    """
    files = _stored_files(location) if isinstance(location, str) else _local_files(location)
    found: list[Site] = []
    problems: list[str] = []
    for find in _candidates(location, files):
        try:
            site = find()
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
            f"{location} holds no site: expected <host>.7z archives or <host>/Posts.xml folders"
        )
    return sorted(found, key=lambda site: site.host)


def identify(source: ByteSource | StoredSource) -> dict[str, Any]:
    """What identifies a file's content, for fingerprints: never its place on this machine."""
    if isinstance(source, StoredSource):
        return {"bytes": source.size, "version": source.file.version}
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


def _local_files(path: Path) -> dict[str, DumpFile]:
    """The files of a folder and its folders by relative name; a file itself as ""."""
    if not path.exists():
        raise InputError(f"source.path: there is no file or folder {path}")
    if path.is_file():
        return {"": path}
    files: dict[str, DumpFile] = {}
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        below = sorted(entry.iterdir()) if entry.is_dir() else [entry]
        files |= {file.relative_to(path).as_posix(): file for file in below if file.is_file()}
    return files


def _stored_files(url: str) -> dict[str, DumpFile]:
    """The same of an object store."""
    files = ObjectFolder(url).files(max_depth=2)
    if not files:
        raise InputError(f"source.path: there is no file or folder {url}")
    return {name: file for name, file in files.items() if not name.startswith(".")}


def _candidates(
    location: Path | str, files: Mapping[str, DumpFile]
) -> Iterator[Callable[[], Site | None]]:
    """What may be a site, each to be looked at on its own."""
    if "" in files:
        file = files[""]
        place = file.resolve() if isinstance(file, Path) else PurePosixPath(file.url)
        yield partial(_from_file, file, place.parent.name)
        return
    folders: dict[str, dict[str, DumpFile]] = {}
    for name, file in files.items():
        folder, _, base = name.rpartition("/")
        folders.setdefault(folder, {})[base] = file
    top = folders.pop("", {})
    if _is_site_folder(top, folders):
        host = location.resolve().name if isinstance(location, Path) else location.split("/")[-1]
        yield partial(_from_folder, str(location), host, top)
        return
    for name in sorted([*top, *folders]):
        if name in top:
            yield partial(_from_file, top[name], "")
        else:
            yield partial(_from_folder, f"{location}/{name}", name, folders[name])


TABLES = frozenset(
    name
    for table in ("Badges", "Comments", "PostHistory", "PostLinks", "Tags", "Users", "Votes")
    for name in (f"{table}.xml", f"{table.lower()}.xml")
)


def _is_site_folder(top: Collection[str], folders: Collection[str]) -> bool:
    if any(POSTS_FILE.fullmatch(name) for name in top):
        return True
    return bool(top) and not folders and all(name in TABLES for name in top)


def _from_file(file: DumpFile, folder: str) -> Site | None:
    """The site of a single file; a bare Posts.xml has the name of its `folder`."""
    if file.name.endswith(".7z"):
        return _from_archive(file)
    single = re.fullmatch(r"(?P<host>.+?)(?:-Posts)?\.xml(\.gz|\.zst)?", file.name)
    if not single:
        return None
    host = folder if POSTS_FILE.fullmatch(file.name) else single["host"]
    return Site(_checked_host(host, str(file)), _source(file))


def _from_folder(place: str, host: str, files: Mapping[str, DumpFile]) -> Site | None:
    posts = [name for name in sorted(files) if POSTS_FILE.fullmatch(name)]
    if len(posts) > 1:
        raise InputError(f"{place} holds {' and '.join(posts)}: keep one of them")
    if posts:
        return Site(_checked_host(host, place), _source(files[posts[0]]))
    others = [name for name in sorted(files) if name.endswith(".xml")]
    if others:
        raise InputError(
            f"{place} holds {', '.join(others)} but no Posts.xml: add it, or remove the folder"
        )
    return None


def _from_archive(archive: DumpFile) -> Site | None:
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
    return Site(_checked_host(host, str(archive)), _source(archive, members[0]))


def _source(file: DumpFile, member: str | None = None) -> ByteSource | StoredSource:
    return ByteSource(file, member) if isinstance(file, Path) else StoredSource(file, member)


def _checked_host(host: str, place: str) -> str:
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
