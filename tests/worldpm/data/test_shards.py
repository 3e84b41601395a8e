"""Shards are read back exactly, from a disk and through an object store's cache."""

import numpy as np
import pytest

from worldpm.artifacts import read_json, write_json
from worldpm.data.packing import GroupLengths
from worldpm.data.shards import ShardSet
from worldpm.data.storage import DataFolder
from worldpm.errors import ArtifactError, ConfigError


def assert_same(group, expected):
    assert group.group_id == expected.group_id
    assert group.pair_ids() == expected.pair_ids()
    np.testing.assert_array_equal(group.prompt_ids, expected.prompt_ids)
    for ids, expected_ids in zip(group.response_ids, expected.response_ids, strict=True):
        np.testing.assert_array_equal(ids, expected_ids)
    for name in ("margin", "weight", "scores"):
        np.testing.assert_array_equal(getattr(group, name), getattr(expected, name))


def test_groups_come_back_by_number_over_shards_and_batches(write_shards, random_groups):
    groups = random_groups(50)
    shards = ShardSet(
        DataFolder(str(write_shards(groups, groups_per_shard=20, rows_per_batch=8))), "train"
    )
    wanted = [0, 49, 19, 20, 7, 8, 41]
    for group, number in zip(shards.read(wanted), wanted, strict=True):
        assert_same(group, groups[number])


def test_lengths_from_offsets_are_those_of_the_groups(write_shards, random_groups):
    groups = random_groups(50)
    shards = ShardSet(
        DataFolder(str(write_shards(groups, groups_per_shard=20, rows_per_batch=8))), "train"
    )
    found = shards.lengths(range(50))
    expected = GroupLengths.of_groups(groups)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.attended, expected.attended)


def test_an_object_store_is_read_through_the_cache(write_shards, random_groups, tmp_path):
    import fsspec

    folder = write_shards(random_groups(10))
    memory = fsspec.filesystem("memory")
    for path in (folder / "shards" / "train").iterdir():
        memory.pipe(f"/bucket/set/shards/train/{path.name}", path.read_bytes())
    cache = tmp_path / "cache"
    shards = ShardSet(DataFolder("memory://bucket/set", cache), "train")
    assert len(shards.read(range(10))) == 10
    memory.rm("/bucket", recursive=True)
    again = ShardSet(DataFolder("memory://bucket/set", cache), "train")
    assert_same(again.read([3])[0], shards.read([3])[0])


def test_an_object_store_without_a_cache_is_refused():
    with pytest.raises(ConfigError, match=r"data\.cache"):
        DataFolder("s3://bucket/set")


def test_a_missing_data_set_names_the_command_that_makes_it(tmp_path):
    with pytest.raises(ArtifactError, match="worldpm data build"):
        ShardSet(DataFolder(str(tmp_path)), "train")


def test_a_manifest_that_names_other_counts_is_refused(write_shards, random_groups):
    folder = write_shards(random_groups(10))
    path = folder / "shards" / "train" / "manifest.json"
    manifest = read_json(path)
    manifest["counts"]["num_pairs"] += 1
    write_json(path, manifest)
    with pytest.raises(ArtifactError, match="rebuild the data set"):
        ShardSet(DataFolder(str(folder)), "train")


def test_a_cut_shard_is_refused(write_shards, random_groups):
    folder = write_shards(random_groups(10))
    path = folder / "shards" / "train" / "shard-00000.arrow"
    path.write_bytes(path.read_bytes()[:-20])
    shards = ShardSet(DataFolder(str(folder)), "train")
    with pytest.raises(ArtifactError, match="shard-00000"):
        shards.read([0])


def test_an_empty_split_has_no_groups(write_shards):
    shards = ShardSet(DataFolder(str(write_shards([]))), "train")
    assert shards.info.num_groups == 0
    assert shards.index.num_pairs == 0
