"""Real damaged or unusual dumps: each gives its right result or a clear error."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from data_pipeline.sources import archives
from data_pipeline.sources.discovery import find_sites
from data_pipeline.stages.ingest import ingest_site, map_in_order
from worldpm.artifacts import StageCounts
from worldpm.errors import InputError


@dataclass(frozen=True)
class Expected:
    """Counted by `grep -c '<row'` and `grep -o 'PostTypeId="[0-9]*"'` in the files."""

    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    damage: str | None = None
    error: str | None = None


CASES = {
    "askubuntu-orphan-answer": Expected(98),
    "bad-creation-date": Expected(74, damage="26 of CreationDate are no dates"),
    "conlang-escaped-nul": Expected(72, {"post_type_4": 8, "post_type_5": 8}),
    "git-lfs-pointer": Expected(error="git lfs pull"),
    "lower-case-names": Expected(364, {"post_type_3": 8}),
    "multi-line-rows": Expected(8),
    "posts-missing": Expected(error="no Posts.xml"),
    "posts-with-deleted": Expected(350, {"deleted_post": 19}),
    "questions-only": Expected(293),
    "root-xml-element": Expected(98),
    "rows-after-closing-tag": Expected(116, damage="rows 99 to 116 stand after the closing tag"),
    "stackoverflow-2008-prefix": Expected(620),
    "unclosed-root": Expected(998, damage="the closing tag is missing after row 998"),
}


@pytest.mark.shared_data
def test_every_case_of_the_folder_is_in_the_table(shared_data: Path) -> None:
    assert {path.name for path in (shared_data / "stackexchange-odd").iterdir()} == set(CASES)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", CASES)
def test_an_odd_dump_is_read_right_or_refused(shared_data: Path, tmp_path: Path, name: str) -> None:
    expected = CASES[name]
    folder = shared_data / "stackexchange-odd" / name
    if expected.error is not None:
        with pytest.raises(InputError, match=expected.error):
            _ingest(folder, tmp_path)
        return
    counts, damage = _ingest(folder, tmp_path)
    counts.check(name)
    assert (counts.rows_in, counts.dropped) == (expected.rows, expected.dropped)
    assert damage == ([] if expected.damage is None else damage)
    assert expected.damage is None or re.search(expected.damage, " ".join(damage))


@pytest.mark.shared_data
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.damage])
def test_strict_refuses_what_is_damaged(shared_data: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=CASES[name].damage):
        _ingest(shared_data / "stackexchange-odd" / name, tmp_path, strict=True)


@pytest.mark.shared_data
def test_several_parsers_write_the_same_bytes_as_one(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "CHUNK_BYTES", 20_000)
    (site,) = find_sites(shared_data / "stackexchange-odd" / "unclosed-root")
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    alone = ingest_site(site, tmp_path / "one", strict=False)
    with ThreadPoolExecutor(3) as pool:
        mapper = partial(map_in_order, pool, 2)
        together = ingest_site(site, tmp_path / "several", strict=False, mapper=mapper)
    assert together == alone
    files = [
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "several")
    ]
    assert files[0] == files[1]


def _ingest(folder: Path, output: Path, *, strict: bool = False) -> tuple[StageCounts, list[str]]:
    (site,) = find_sites(folder)
    result = ingest_site(site, output, strict=strict)
    damage = [note["damage"] for note in result.notes if "damage" in note]
    return result.counts["ingest"], damage
