"""The preference set as shards: splits by prompt, nested fractions, nothing of a test set."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worldpm.training.finetuning.running import ROOT
from worldpm.artifacts import Manifest
from worldpm.config import load_config
from worldpm.data.shards import ShardSet
from worldpm.data.storage import DataFolder
from worldpm.data.token_group import TokenGroup
from worldpm.errors import InputError
from worldpm.group_files import read_group_file, write_group_file
from worldpm.training.finetuning.config import FinetuneConfig
from worldpm.training.finetuning.preparation import prepare_data


def configure(base: Path, source: Path, out: Path, *further: str) -> FinetuneConfig:
    """The tiny configuration with a fifth of the prompts held out."""
    settings = [
        f"model.init_from={base}",
        f"preferences.source.path={source}",
        f"output_dir={out}",
        "preferences.validation=0.2",
        "preferences.max_tokens=128",
        *further,
    ]
    return load_config(FinetuneConfig, ROOT / "configs/finetune/tiny.yaml", settings)


def split_groups(config: FinetuneConfig, split: str) -> list[TokenGroup]:
    """The groups of a split as the trainer reads them."""
    shards = ShardSet(DataFolder(config.data.path), split)  # pyright: ignore[reportArgumentType]
    return shards.read(range(shards.info.num_groups))


def prepared_ids(config: FinetuneConfig, split: str) -> list[str]:
    prepare_data(config)
    return [group.group_id for group in split_groups(config, split)]


def test_every_pair_of_the_set_is_trained_on_or_held_out(
    base_folder: Path, preference_file: Path, tmp_path: Path
) -> None:
    config = configure(base_folder, preference_file, tmp_path)
    train, held_out = prepared_ids(config, "train"), prepared_ids(config, "validation")
    assert sorted(train + held_out) == sorted(g.group_id for g in read_group_file(preference_file))
    assert 0.1 < len(held_out) / 160 < 0.3


def test_the_order_is_not_the_files(
    base_folder: Path, preference_file: Path, tmp_path: Path
) -> None:
    train = prepared_ids(configure(base_folder, preference_file, tmp_path), "train")
    assert train != sorted(train, key=lambda name: int(name.rpartition("-")[2]))


def test_a_smaller_fraction_is_part_of_a_larger_one_and_the_held_out_prompts_stay(
    base_folder: Path, preference_file: Path, tmp_path: Path
) -> None:
    found: dict[str, list[set[str]]] = {"train": [], "validation": []}
    for number, fraction in enumerate((0.1, 0.5, 1.0)):
        config = configure(
            base_folder, preference_file, tmp_path / str(number), f"preferences.fraction={fraction}"
        )
        for split, sets in found.items():
            sets.append(set(prepared_ids(config, split)))
    small, middle, whole = found["train"]
    assert small < middle < whole
    assert found["validation"][0] == found["validation"][1] == found["validation"][2]


def test_buckets_change_neither_content_nor_order(
    base_folder: Path, preference_file: Path, tmp_path: Path
) -> None:
    one = prepared_ids(configure(base_folder, preference_file, tmp_path / "1"), "train")
    config = configure(base_folder, preference_file, tmp_path / "4", "preferences.buckets=4")
    assert prepared_ids(config, "train") == one


def test_prompts_of_a_test_set_are_left_out_and_counted(
    base_folder: Path, preference_file: Path, tmp_path: Path
) -> None:
    groups = list(read_group_file(preference_file))
    write_group_file(tmp_path / "test.jsonl", groups[:10])
    test_set = f"test_sets.seen={{path: {tmp_path / 'test.jsonl'}, kind: subjective}}"
    config = configure(base_folder, preference_file, tmp_path / "run", test_set)
    found = prepared_ids(config, "train") + prepared_ids(config, "validation")
    assert not {group.group_id for group in groups[:10]} & set(found)
    counts = Manifest.read(Path(config.data.path) / "groups").counts["groups"]
    assert counts["dropped"] == {"prompt_in_a_test_set": 10}


def test_the_strength_of_a_preference_reaches_the_loss_as_margin(
    base_folder: Path, preference_file: Path, tmp_path: Path
) -> None:
    config = configure(base_folder, preference_file, tmp_path)
    prepare_data(config)
    stored = {g.group_id: g.pairs[0].margin for g in read_group_file(preference_file)}
    assert {
        group.group_id: int(group.margin[0])
        for split in ("train", "validation")
        for group in split_groups(config, split)
    } == stored


def test_a_set_too_small_to_hold_prompts_out_says_what_to_raise(
    base_folder: Path, preference_file: Path, tmp_path: Path
) -> None:
    config = configure(base_folder, preference_file, tmp_path, "preferences.validation=0.0001")
    with pytest.raises(InputError, match=r"raise preferences\.validation"):
        prepare_data(config)
