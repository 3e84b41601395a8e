"""Copy a finished build to an object store: manifests last, file by file, going on after a kill.

The manifests disappear before the first file is touched and come back when all are there, the one
of the whole build at the very end: what is half published is never taken for a build.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from worldpm.artifacts import MANIFEST_NAME, Manifest
from worldpm.errors import ArtifactError
from worldpm.log import progress
from worldpm.object_store import ObjectFolder

# What a build consists of; anything else at the URL is not ours and stays.
PUBLISHED = ("attribution", "card", "card.md", "groups", MANIFEST_NAME, "shards", "tokenizer")
STAGES_FOLDER = "stages"


def read_manifest(url: str) -> Manifest | None:
    """The manifest of a published build; None if there is none.

    Raises:
        ArtifactError: there is something else.
    """
    data = ObjectFolder(url).read(MANIFEST_NAME)
    if data is None:
        return None
    try:
        return Manifest(**json.loads(data))
    except (TypeError, ValueError) as exc:
        raise ArtifactError(f"{url}/{MANIFEST_NAME} is no manifest of a build ({exc})") from exc


def is_published(url: str, fingerprint: str) -> bool:
    """Whether exactly this build is at the URL, with every file in its size."""
    manifest = read_manifest(url)
    if manifest is None or manifest.fingerprint != fingerprint:
        return False
    found = ObjectFolder(url).files()
    return all(
        name in found and found[name].size == entry["bytes"]
        for name, entry in manifest.files.items()
    )


def publish(build_dir: Path, url: str) -> None:
    """Copy a finished build; what an earlier attempt has copied and nobody changed is kept.

    Raises:
        ConfigError: the store cannot be written.
    """
    folder = ObjectFolder(url)
    files = Manifest.read(build_dir).files
    manifests = sorted(
        (path.relative_to(build_dir).as_posix() for path in _manifests(build_dir)),
        key=lambda name: (-name.count("/"), name),
    )
    stored = {name: file for name, file in folder.files().items() if _is_ours(name)}
    old_manifests = [name for name in stored if PurePosixPath(name).name == MANIFEST_NAME]
    folder.remove(sorted(old_manifests, key=lambda name: name.count("/")))  # the build's own first
    folder.remove(name for name in stored if name not in files and name not in old_manifests)
    journal = _Journal.open(build_dir, url)
    with progress("publish", len(files) + len(manifests)) as bar:
        for name, entry in files.items():
            is_there = name in stored and journal.holds(name, entry, stored[name].version)
            if not is_there:
                journal.add(name, entry, folder.put(build_dir / name, name).version)
            bar.advance()
        for name in manifests:
            folder.put(build_dir / name, name)
            bar.advance()


def _manifests(build_dir: Path) -> list[Path]:
    paths = build_dir.rglob(MANIFEST_NAME)
    return [path for path in paths if _is_ours(path.relative_to(build_dir).as_posix())]


def _is_ours(name: str) -> bool:
    return name.split("/", maxsplit=1)[0] in PUBLISHED


@dataclass(frozen=True, slots=True)
class _Journal:
    """Which content was copied to which version of a stored file: lines of a file beside the
    stages, of which a kill can only spoil the last."""

    path: Path
    entries: dict[str, tuple[str, str]]

    @classmethod
    def open(cls, build_dir: Path, url: str) -> _Journal:
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        path = build_dir / STAGES_FOLDER / f".published-{key}.jsonl"
        path.parent.mkdir(exist_ok=True)
        entries: dict[str, tuple[str, str]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                name, sha256, version = json.loads(line)
            except ValueError:
                continue
            entries[name] = (sha256, version)
        return cls(path, entries)

    def holds(self, name: str, entry: Mapping[str, Any], version: str) -> bool:
        return self.entries.get(name) == (entry["sha256"], version)

    def add(self, name: str, entry: Mapping[str, Any], version: str) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([name, entry["sha256"], version]) + "\n")
