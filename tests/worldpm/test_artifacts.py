"""Outputs appear whole or not at all, and an output that does not match is never reused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldpm.artifacts import (
    Manifest,
    StageCounts,
    atomic_directory,
    atomic_file,
    describe_files,
    fingerprint,
    is_current,
    read_json,
    remove_directory,
    write_json,
)
from worldpm.errors import ArtifactError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_directory_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "out"
    with atomic_directory(final) as hidden:
        (hidden / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_directory(final) as hidden:
        (hidden / "a").write_text("new")
        raise RuntimeError
    assert (final / "a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_a_new_directory_replaces_the_old_one_completely(tmp_path: Path) -> None:
    final = tmp_path / "out"
    for name in ("first", "second"):
        with atomic_directory(final) as hidden:
            (hidden / name).write_text(name)
    assert [path.name for path in final.iterdir()] == ["second"]


def test_a_removal_that_is_killed_leaves_no_half_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "a").write_text("a")

    def die(path: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise KeyboardInterrupt

    monkeypatch.setattr("worldpm.artifacts.shutil.rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        remove_directory(directory)
    assert not directory.exists()
    monkeypatch.undo()
    directory.mkdir()
    remove_directory(directory)
    assert list(tmp_path.iterdir()) == []


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_different_values_have_different_fingerprints(one: list[str], other: list[str]) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)


def test_only_the_same_fingerprint_counts_as_current(tmp_path: Path) -> None:
    assert not is_current(tmp_path, "abc")
    Manifest("kind", "abc", {}, {}, {}, describe_files(tmp_path)).write(tmp_path)
    assert is_current(tmp_path, "abc")
    assert not is_current(tmp_path, "abd")


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"kind": 1')
    with pytest.raises(ArtifactError, match=r"manifest\.json is no valid JSON"):
        Manifest.read(tmp_path)


def test_counts_must_add_up() -> None:
    counts = StageCounts(rows_in=5, rows_out=3)
    counts.drop("too_short", 2)
    counts.drop("never", 0)
    counts.check("stage")
    assert counts.dropped == {"too_short": 2}
    counts.drop("too_short")
    with pytest.raises(AssertionError, match="5 rows in, 6 accounted for"):
        counts.check("stage")
