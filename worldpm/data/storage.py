"""Where a data set lies: a local folder, or an object store with a local cache of its files."""

from __future__ import annotations

from pathlib import Path

from worldpm.errors import ArtifactError, ConfigError
from worldpm.object_store import ObjectFolder, is_url


class DataFolder:
    """The output of a data build, at a path or an fsspec URL (`s3://…`, `gs://…`).

    Files of an object store are copied whole to `cache_folder` when first asked for; ranks of one
    machine share the copies. The cache is keyed by nothing but the path below the folder: use one
    cache a data set.

    Raises:
        ConfigError: a URL without a cache folder.
    """

    def __init__(self, location: str, cache_folder: Path | None = None) -> None:
        self.location = location.rstrip("/")
        self._cache: Path | None = None
        if is_url(location):
            if cache_folder is None:
                raise ConfigError(
                    f"data.path is {location}: name a local folder for copies as data.cache"
                )
            self._cache = cache_folder

    def local_path(self, name: str) -> Path:
        """A local file of this name, fetched if need be.

        Raises:
            ArtifactError: there is none.
        """
        path = Path(self.location) / name if self._cache is None else self._cache / name
        if path.exists():
            return path
        if self._cache is None:
            raise ArtifactError(
                f"there is no {path}: data.path must be the output of `worldpm data build`"
            )
        try:
            # Two ranks may fetch the same file: each writes its own copy, either takes the name.
            ObjectFolder(self.location).fetch(name, path)
        except FileNotFoundError as exc:
            raise ArtifactError(
                f"there is no {self.location}/{name}: data.path must be the output of "
                "`worldpm data build`"
            ) from exc
        return path
