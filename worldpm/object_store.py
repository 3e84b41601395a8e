"""Folders of an object store, named by fsspec URLs: `s3://…`, `gs://…`, `memory://…`, `file://…`.

Credentials and endpoints come from where fsspec and its backends look for them: the environment, or
`~/.config/fsspec`. Files are copied whole, to a disk and from it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Annotated, Any

from pydantic import PlainSerializer, PlainValidator

from worldpm.artifacts import write_atomic
from worldpm.errors import ConfigError

# What changes when an object is written anew, the surest first; every backend lists one of these.
VERSION_KEYS = ("ETag", "etag", "md5Hash", "content_md5", "crc32c", "mtime", "LastModified")
VERSION_KEYS += ("last_modified", "created")


def is_url(location: object) -> bool:
    """Whether a location is an fsspec URL rather than a path of this machine."""
    return isinstance(location, str) and "://" in location


def parse_location(value: object) -> Path | str:
    """A path for what names one, a text without a slash at the end for a URL.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("name a path or a URL (s3://…, gs://…)")
    return value.rstrip("/") if is_url(value) else Path(value)


Location = Annotated[
    Path | str, PlainValidator(parse_location), PlainSerializer(str, return_type=str)
]
"""A configuration's path (`Path`) or URL (`str`)."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a store as it was listed; `version` changes whenever it is written anew."""

    url: str
    size: int
    version: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(self.url).name

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open it for reading; it can be sought."""
        folder, name = self._place()
        return folder.open(name, mode)

    def fetch(self, path: Path) -> None:
        """Copy it to a local path.

        Raises:
            ConfigError: it is another file than the one that was listed.
        """
        folder, name = self._place()
        try:
            folder.fetch(name, path)
        except FileNotFoundError as exc:
            raise ConfigError(f"{self.url} has gone since it was listed") from exc
        if folder.describe(name) != self:
            path.unlink()
            raise ConfigError(f"{self.url} changed while it was read: run the same command again")

    def _place(self) -> tuple[ObjectFolder, str]:
        base, _, name = self.url.rpartition("/")
        return ObjectFolder(base), name


@dataclass(frozen=True, slots=True)
class ObjectFolder:
    """A folder of a store. Only its URL is kept, so that it can be sent to another process."""

    url: str

    def files(self, max_depth: int | None = None) -> dict[str, StoredFile]:
        """The files below it (or, if the URL names a file, this as "") in the order of names."""
        with self._store() as (store, root):
            store.invalidate_cache()
            found: Mapping[str, Any] = store.find(root, maxdepth=max_depth, detail=True)
            names = {str(path)[len(root) :].strip("/"): info for path, info in found.items()}
            if "" in names:  # some stores say nothing more of a file that is asked for itself
                names[""] = store.info(root)
        return {name: self._stored(name, names[name]) for name in sorted(names)}

    def describe(self, name: str) -> StoredFile:
        """One file.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._store() as (store, root):
            store.invalidate_cache()
            return self._stored(name, store.info(f"{root}/{name}"))

    def open(self, name: str, mode: str = "rb") -> IO[bytes]:
        """Open a file for reading."""
        with self._store() as (store, root):
            return store.open(f"{root}/{name}", mode)

    def read(self, name: str) -> bytes | None:
        """The bytes of a small file; None if there is none."""
        with self._store() as (store, root):
            try:
                return store.cat_file(f"{root}/{name}")
            except FileNotFoundError:
                return None

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to a local path, where it appears whole or not at all.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._store() as (store, root):
            write_atomic(path, lambda hidden: store.get_file(f"{root}/{name}", str(hidden)))

    def put(self, path: Path, name: str) -> StoredFile:
        """Copy a local file into the folder, over what stands there."""
        with self._store() as (store, root):
            store.put_file(str(path), f"{root}/{name}")
        return self.describe(name)

    def remove(self, names: Iterable[str]) -> None:
        """Remove files."""
        with self._store() as (store, root):
            for name in names:
                store.rm_file(f"{root}/{name}")

    def _stored(self, name: str, info: Mapping[str, Any]) -> StoredFile:
        version = next((f"{key}:{_text(info[key])}" for key in VERSION_KEYS if info.get(key)), "")
        return StoredFile(f"{self.url}/{name}" if name else self.url, int(info["size"]), version)

    @contextmanager
    def _store(self) -> Generator[tuple[Any, str]]:
        """The file system and the folder's path in it; what the user can mend is named."""
        import fsspec

        # Object stores have no folders to make; only a disk has, and it takes the option.
        options = {"auto_mkdir": True} if self.url.startswith(("file://", "local://")) else {}
        try:
            store, root = fsspec.core.url_to_fs(self.url, **options)
            yield store, str(root).rstrip("/")
        except PermissionError as exc:
            raise ConfigError(f"{self.url}: no permission ({exc})") from exc
        except ImportError as exc:  # fsspec says what to install
            raise ConfigError(f"{self.url}: {exc}") from exc
        except ValueError as exc:
            if "Protocol not known" not in str(exc):
                raise
            raise ConfigError(f"{self.url}: {exc}; use s3://, gs://, … or a path") from exc


def _text(version: object) -> str:
    """A version as a text; a store may list a date now as a number, now as a date."""
    moment = version.timestamp() if isinstance(version, datetime) else version
    return f"{moment:.6f}" if isinstance(moment, float) else str(moment)
