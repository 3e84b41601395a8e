"""A dump in an object store, and a build published to one: whole or not at all, going on after a
kill, the same bytes as on a disk, and readable by training and export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import py7zr
import pyarrow.parquet as pq
import pytest

from data_pipeline import publication
from data_pipeline.config import DataConfig
from data_pipeline.export import ExportConfig, export_pairs
from data_pipeline.pipeline import build, plan_lines
from data_pipeline.sources.discovery import find_sites, identify
from worldpm.artifacts import Manifest
from worldpm.config import load_config, to_yaml
from worldpm.data.shards import ShardSet
from worldpm.data.storage import DataFolder
from worldpm.errors import ArtifactError, ConfigError, InputError
from worldpm.object_store import ObjectFolder, StoredFile


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty store."""
    if request.param == "file":
        yield f"file://{tmp_path}/store"
        return
    yield "memory://store"
    memory = fsspec.filesystem("memory")
    if memory.exists("/store"):
        memory.rm("/store", recursive=True)


@pytest.fixture
def dump(write_dump: Any, posts: SimpleNamespace) -> Path:
    """One site as an archive, one as a folder."""
    folder = write_dump(
        {"coffee.example.com": posts.many(30), "tea.example.com": posts.many(30, first_id=501)}
    )
    xml = folder / "coffee.example.com" / "Posts.xml"
    with py7zr.SevenZipFile(folder / "coffee.example.com.7z", "w") as archive:
        archive.write(xml, "Posts.xml")
    shutil.rmtree(xml.parent)
    return folder


def _upload(folder: Path, url: str) -> str:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            ObjectFolder(url).put(path, path.relative_to(folder).as_posix())
    return url


def _config(source: Path | str, output_dir: Path | str, **sections: Any) -> DataConfig:
    return DataConfig.model_validate(
        {
            "source": {"path": source},
            "output_dir": output_dir,
            "tokenizer": {"vocab_size": 400},
            "shards": {"groups_per_shard": 64, "max_tokens": 256},
            "near_duplicates": {"enabled": False},
            "executor": {"workers": 1},
            **sections,
        }
    )


def _published(url: str) -> dict[str, bytes]:
    return {name: file.open().read() for name, file in ObjectFolder(url).files().items()}


def _on_disk(folder: Path) -> dict[str, bytes]:
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes()
        for name, path in paths.items()
        if path.is_file() and not name.startswith("stages/")
    }


def test_sites_of_a_store_are_those_of_the_folder(dump: Path, store: str) -> None:
    url = _upload(dump, f"{store}/dump")
    local, stored = find_sites(dump), find_sites(url)
    assert [site.host for site in stored] == [site.host for site in local]
    archive, folder = stored
    assert archive.posts.label == f"{url}/coffee.example.com.7z/Posts.xml"
    assert [site.posts.size for site in stored] == [site.posts.size for site in local]
    (alone,) = find_sites(f"{url}/tea.example.com")
    assert alone == folder
    (single,) = find_sites(f"{url}/tea.example.com/Posts.xml")
    assert single == folder
    before = identify(folder.posts)
    _upload(dump, url)
    assert identify(find_sites(url)[1].posts) != before  # written anew: to be read anew


def test_what_is_wrong_in_a_store_is_named(store: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file or folder"):
        find_sites(f"{store}/nothing")
    (tmp_path / "a.b.7z").write_text("no archive")
    ObjectFolder(f"{store}/dump").put(tmp_path / "a.b.7z", "a.b.7z")
    with pytest.raises(InputError, match=r"a\.b\.7z is not a 7z archive"):
        find_sites(f"{store}/dump")
    with pytest.raises(ConfigError, match="Protocol not known"):
        find_sites("carrier-pigeon://dump")


def test_a_build_from_store_to_store_has_the_bytes_of_one_on_a_disk(
    dump: Path, store: str, tmp_path: Path
) -> None:
    build(_config(dump, tmp_path / "reference"))
    url = _upload(dump, f"{store}/dump")
    config = _config(url, f"{store}/out", work_dir=tmp_path / "work")
    assert build(config)
    published, reference = _published(f"{store}/out"), _on_disk(tmp_path / "reference")
    assert published.keys() == reference.keys()
    # Manifests name the inputs by their versions in the store.
    assert {n for n in reference if published[n] != reference[n]} <= {
        name for name in reference if name.endswith("manifest.json")
    }
    assert not list((tmp_path / "work").rglob(".fetched"))
    assert not build(config)
    assert "nothing to do" in plan_lines(config)[0]
    shutil.rmtree(tmp_path / "work")  # what is published counts
    assert not build(config)


class _KilledError(BaseException):
    """What a kill is to the process that it ends."""


def test_a_publication_that_breaks_off_is_no_build_and_goes_on_where_it_stopped(
    dump: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First over nothing, then over an earlier build of which every file has to go."""
    out, work = f"{store}/out", tmp_path / "work"
    put = ObjectFolder.put
    copied: list[str] = []

    def put_or_die(folder: ObjectFolder, path: Path, name: str) -> StoredFile:
        if len(copied) % 9 == 8:
            copied.append("")
            raise _KilledError
        copied.append(name)
        return put(folder, path, name)

    for seed in (0, 1):
        config = _config(dump, out, work_dir=work, seed=seed)
        copied.clear()
        num_kills = 0
        with monkeypatch.context() as patched:
            patched.setattr(ObjectFolder, "put", put_or_die)
            while True:
                try:
                    assert build(config)
                    break
                except _KilledError:
                    num_kills += 1
                    assert publication.read_manifest(out) is None
        assert num_kills > 0
        data = [name for name in copied if name and not name.endswith("manifest.json")]
        assert len(data) == len(set(data))  # nothing was copied twice
        assert copied[-1] == "manifest.json"
        assert _published(out) == _on_disk(work)


def test_a_file_that_someone_changed_or_removed_is_copied_again(
    dump: Path, store: str, tmp_path: Path
) -> None:
    out, work = ObjectFolder(f"{store}/out"), tmp_path / "work"
    config = _config(dump, out.url, work_dir=work)
    build(config)
    (tmp_path / "other").write_text("not ours")
    out.put(tmp_path / "other", "groups/stale.parquet")
    out.put(tmp_path / "other", "notes.txt")
    out.put(tmp_path / "other", "card.md")
    out.remove(["groups/bucket-00000.parquet"])
    assert build(config)
    published = _published(out.url)
    assert published.pop("notes.txt") == b"not ours"  # another's file beside the build stays
    assert published == _on_disk(work)


def test_shards_without_their_manifest_are_refused_by_training(
    dump: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(dump, f"{store}/out", work_dir=tmp_path / "work")
    put = ObjectFolder.put

    def put_data_only(folder: ObjectFolder, path: Path, name: str) -> StoredFile:
        if name.endswith("manifest.json"):
            raise _KilledError
        return put(folder, path, name)

    with monkeypatch.context() as patched, pytest.raises(_KilledError):
        patched.setattr(ObjectFolder, "put", put_data_only)
        build(config)
    with pytest.raises(ArtifactError, match=r"data\.path must be the output"):
        ShardSet(DataFolder(f"{store}/out", tmp_path / "cache"), "train")


def test_training_and_export_read_what_was_published(
    dump: Path, store: str, tmp_path: Path
) -> None:
    out, work = f"{store}/out", tmp_path / "work"
    build(_config(dump, out, work_dir=work))
    remote = ShardSet(DataFolder(out, tmp_path / "cache"), "train")
    local = ShardSet(DataFolder(str(work)), "train")
    assert remote.info == local.info
    assert remote.info.num_groups > 20
    numbers = range(remote.info.num_groups)
    pairs = zip(remote.read(numbers), local.read(numbers), strict=True)
    assert all(a.group_id == b.group_id for a, b in pairs)
    for suffix in ("parquet", "jsonl"):
        export = ExportConfig(input=out, output=f"{store}/pairs.{suffix}")
        beside = ExportConfig(input=work, output=tmp_path / f"pairs.{suffix}")
        assert export_pairs(export) == export_pairs(beside) > 20
        exported = ObjectFolder(store).open(f"pairs.{suffix}").read()
        assert exported == (tmp_path / f"pairs.{suffix}").read_bytes()
    ObjectFolder(out).remove(["manifest.json"])
    with pytest.raises(ArtifactError, match="not complete"):
        export_pairs(ExportConfig(input=out, output=tmp_path / "pairs.parquet"))


def test_a_dump_that_changes_while_it_is_read_stops_the_build(
    dump: Path, store: str, tmp_path: Path
) -> None:
    url = _upload(dump, f"{store}/dump")
    (_, site) = find_sites(url)
    _upload(dump, url)
    with (
        pytest.raises(ConfigError, match="changed while it was read"),
        site.posts.at_hand(tmp_path / "copies"),
    ):
        pass
    assert not list((tmp_path / "copies").iterdir())


def test_a_url_needs_a_folder_for_the_stages_and_survives_the_dry_run(tmp_path: Path) -> None:
    overrides = ["source.path=s3://bucket/dump/", "output_dir=s3://bucket/out"]
    with pytest.raises(ConfigError, match="name a local folder for the stages as work_dir"):
        load_config(DataConfig, None, overrides)
    config = load_config(DataConfig, None, [*overrides, f"work_dir={tmp_path}"])
    assert (config.source.path, config.published_url) == ("s3://bucket/dump", "s3://bucket/out")
    assert config.build_dir == tmp_path
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_config(DataConfig, tmp_path / "config.yaml") == config
    with pytest.raises(ConfigError, match="work_dir is for an output_dir that is a URL"):
        load_config(DataConfig, None, ["source.path=a", "output_dir=b", "work_dir=c"])


def test_stopping_behind_a_stage_publishes_nothing(dump: Path, store: str, tmp_path: Path) -> None:
    config = _config(dump, f"{store}/out", work_dir=tmp_path / "work")
    assert build(config, until="pair")
    assert ObjectFolder(f"{store}/out").files() == {}
    assert "publish: to" in plan_lines(config)[-1]


def test_the_published_manifest_is_the_one_of_the_build(
    dump: Path, store: str, tmp_path: Path
) -> None:
    build(_config(dump, f"{store}/out", work_dir=tmp_path / "work"))
    data = ObjectFolder(f"{store}/out").read("manifest.json")
    assert data is not None
    assert Manifest(**json.loads(data)) == Manifest.read(tmp_path / "work")
    groups = ObjectFolder(f"{store}/out").open("groups/bucket-00000.parquet")
    assert pq.read_table(groups).num_rows == 60
