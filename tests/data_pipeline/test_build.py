"""The whole build: counts that add up, the same bytes whoever does the work, restarts, mistakes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline import executors
from data_pipeline.config import DataConfig
from data_pipeline.pipeline import build, plan_lines
from data_pipeline.stages import pair as pair_module
from worldpm.chat_template import Encoder
from worldpm.cli.main import main
from worldpm.errors import ConfigError, InputError, MissingDependencyError
from worldpm.fast_bpe import fast_bpe
from worldpm.schema import GROUPS_SCHEMA, SHARD_INDEX_SCHEMA, SPLITS, TOKEN_SHARD_SCHEMA

PUBLISHED = ("manifest.json", "card.md", "groups", "tokenizer", "shards")


def _config(dump: Path, output_dir: Path, **sections: Any) -> DataConfig:
    return DataConfig.model_validate(
        {
            "source": {"path": dump},
            "output_dir": output_dir,
            "tokenizer": {"vocab_size": 400},
            "split": {"validation": 0.2, "test": 0.2},
            "near_duplicates": {"enabled": False},  # has tests of its own
            "executor": {"workers": 1},
            **sections,
        }
    )


def _bytes(output_dir: Path) -> dict[str, bytes]:
    files = [path for path in output_dir.rglob("*") if path.is_file()]
    names = {path.relative_to(output_dir).as_posix(): path for path in files}
    return {
        name: path.read_bytes()
        for name, path in sorted(names.items())
        if name.split("/")[0] in PUBLISHED
    }


@pytest.fixture
def dump(write_dump: Any, posts: SimpleNamespace) -> Path:
    """Two sites; the second has a tag wiki, an orphan, a lone answer, ties and a copied answer."""
    odd = [
        *posts.many(20, 2, first_id=2001),
        posts.question(1001, PostTypeId=5),
        posts.answer(1002, 999_999, 1),
        *(posts.question(1003), posts.answer(1004, 1003, 1)),
        *(posts.question(1005), posts.answer(1006, 1005, 1), posts.answer(1007, 1005, 1)),
        *(posts.question(1008), posts.answer(1009, 1008, 1, Body="<p>copied words</p>")),
        posts.answer(1010, 1008, 7, Body="<p>Copied  WORDS</p>"),
    ]
    return write_dump({"coffee.example.com": posts.many(40), "tea.meta.example.com": odd})


def test_every_row_of_the_dump_is_in_a_shard_or_counted(dump: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert build(_config(dump, out))
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts["ingest"]["rows_in"] == 40 * 4 + 20 * 3 + 1 + 1 + 2 + 3 + 3
    steps = list(counts.values())
    for step in steps:
        assert step["rows_in"] == step["rows_out"] + sum(step["dropped"].values())
    for before, after in pairwise(steps):
        assert before["rows_out"] == after["rows_in"]
    assert counts["ingest"]["dropped"] == {"post_type_5": 1}
    expected = {"orphan_answer": 1, "single_answer": 2, "equal_scores": 3}
    assert counts["pair"]["dropped"] == expected
    # The lower voted copy goes, and with it the only pair of its question.
    assert counts["deduplicate"]["dropped"] == {"duplicate_answer": 1, "no_pair_left": 2}


def test_the_output_is_what_the_interface_names(dump: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(_config(dump, out, shards={"groups_per_shard": 64, "max_tokens": 256}))
    assert "# Data card" in (out / "card.md").read_text()
    groups = pq.read_table(out / "groups")
    assert groups.select(GROUPS_SCHEMA.names).schema.equals(GROUPS_SCHEMA)
    assert set(groups["split"].to_pylist()) == set(SPLITS)
    order = groups["order_key"].to_pylist()
    assert order == sorted(order)
    encoder = Encoder.from_folder(out / "tokenizer")
    ids = []
    for split in SPLITS:
        folder = out / "shards" / split
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["config"]["tokenizer_hash"] == encoder.hash
        tables = [_read_ipc(path) for path in sorted(folder.glob("shard-*.arrow"))]
        assert all(table.schema.equals(TOKEN_SHARD_SCHEMA) for table in tables)
        assert [len(table) for table in tables] == manifest["counts"]["groups_per_shard"]
        rows = [row for table in tables for row in table.to_pylist()]
        index = _read_ipc(folder / "index.arrow")
        assert index.schema.equals(SHARD_INDEX_SCHEMA)
        assert index["cumulative_pairs"].to_pylist()[-1] == sum(len(row["pairs"]) for row in rows)
        tokens = [
            len(row["prompt_ids"]) + sum(len(part) for part in row["response_ids"]) for row in rows
        ]
        assert index["cumulative_tokens"].to_pylist()[-1] == sum(tokens)
        assert all(part[-1] == encoder.reward_id for row in rows for part in row["response_ids"])
        ids += [row["group_id"] for row in rows]
    in_order = [
        row["group_id"] for split in SPLITS for row in groups.to_pylist() if row["split"] == split
    ]
    assert ids == in_order


def _read_ipc(path: Path) -> pa.Table:
    with pa.ipc.open_file(path) as reader:
        return reader.read_all()


def test_a_second_build_does_nothing(dump: Path, tmp_path: Path) -> None:
    config = _config(dump, tmp_path / "out")
    assert build(config)
    times = {path: path.stat().st_mtime_ns for path in config.output_dir.rglob("*")}
    assert not build(config)
    assert times == {path: path.stat().st_mtime_ns for path in config.output_dir.rglob("*")}
    assert "nothing to do" in plan_lines(config)[0]


@pytest.mark.parametrize(
    ("change", "first_affected"),
    [
        ({"shards": {"max_tokens": 128}}, "tokenise"),
        ({"split": {"validation": 0.3, "test": 0.2}}, "split"),
        ({"pairing": {"min_margin": 2}}, "pair"),
        ({"executor": {"workers": 2, "memory_gb": 2.0}}, None),
    ],
)
def test_a_changed_setting_rebuilds_what_it_affects_and_no_more(
    dump: Path, tmp_path: Path, change: dict[str, Any], first_affected: str | None
) -> None:
    out = tmp_path / "out"
    build(_config(dump, out))
    changed = _config(dump, out, **change)
    lines = dict(line.split(": ") for line in plan_lines(changed)) if first_affected else {}
    times = {path: path.stat().st_mtime_ns for path in out.glob("**/manifest.json")}
    assert build(changed) == (first_affected is not None)
    rewritten = {path for path, time_ns in times.items() if path.stat().st_mtime_ns != time_ns}
    if first_affected is None:
        assert not rewritten
        return
    names = list(lines)
    affected = names[names.index(first_affected) :]
    assert [name for name, what in lines.items() if what == "run"] == affected
    kinds = {json.loads(path.read_text())["kind"] for path in rewritten} - {"data_build", "shards"}
    assert kinds == set(affected)


def test_a_build_can_stop_behind_a_stage(dump: Path, tmp_path: Path) -> None:
    config = _config(dump, tmp_path / "out")
    assert build(config, until="pair")
    stages = tmp_path / "out" / "stages"
    assert sorted(path.name for path in stages.iterdir()) == ["arrange", "ingest", "pair"]
    assert not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(ConfigError, match="ingest, arrange, pair"):
        build(config, until="pairs")
    assert build(config)


def test_a_single_stage_can_be_run_again(dump: Path, tmp_path: Path) -> None:
    config = _config(dump, tmp_path / "out")
    build(config)
    before = _bytes(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "stages" / "split")
    lines = dict(line.split(": ") for line in plan_lines(config))
    assert [name for name, what in lines.items() if what == "run"] == ["split"]
    assert build(config)
    assert _bytes(tmp_path / "out") == before


def test_a_changed_dump_is_noticed(dump: Path, tmp_path: Path) -> None:
    config = _config(dump, tmp_path / "out")
    build(config)
    posts = dump / "coffee.example.com" / "Posts.xml"
    posts.write_text(posts.read_text(encoding="utf-8").replace("number 5<", "number five<"))
    assert build(config)


@pytest.fixture
def reference(dump: Path, tmp_path: Path) -> dict[str, bytes]:
    """The bytes of a build by one process in four buckets."""
    build(_config(dump, tmp_path / "reference", buckets=4))
    return _bytes(tmp_path / "reference")


def test_two_processes_write_the_same_bytes_as_one(
    dump: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    build(_config(dump, tmp_path / "out", buckets=4, executor={"workers": 2}))
    assert _bytes(tmp_path / "out") == reference


def test_the_ranks_of_an_array_write_the_same_bytes_as_one_process(
    dump: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    def run(rank: int) -> None:
        executor = {"kind": "slurm", "rank": rank, "world_size": 2, "workers": 1}
        build(_config(dump, tmp_path / "out", buckets=4, executor=executor))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, (1, 0)))
    assert _bytes(tmp_path / "out") == reference


def test_the_number_of_buckets_moves_rows_between_files_only(
    dump: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    build(_config(dump, tmp_path / "out", buckets=1))
    assert pq.read_table(tmp_path / "out" / "groups").equals(
        pq.read_table(tmp_path / "reference" / "groups")
    )
    shards = {name: data for name, data in reference.items() if name.endswith(".arrow")}
    assert shards == {k: v for k, v in _bytes(tmp_path / "out").items() if k in shards}


def test_the_fast_encoder_changes_no_byte(
    dump: Path, tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow: list[Encoder] = []

    def leave_slow(encoder: Encoder) -> Encoder:
        slow.append(encoder)
        return encoder

    monkeypatch.setattr(Encoder, "with_fast_bpe", leave_slow)
    build(_config(dump, tmp_path / "out", buckets=4))
    assert fast_bpe(slow[0].tokenizer) is not None
    assert _bytes(tmp_path / "out") == reference


def test_killed_in_any_stage_the_build_goes_on_to_the_same_bytes(
    dump: Path, tmp_path: Path, reference: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call dies after three more tasks, in the middle of writing the fourth."""
    config = _config(dump, tmp_path / "out", buckets=4)
    original = executors.run_and_mark
    calls = 0

    def run_or_die(stage: Any, task: str) -> None:
        nonlocal calls
        calls += 1
        if calls % 4 == 0:
            (stage.partial_directory / f".99.tmp.{task}").write_bytes(b"half")
            raise KeyboardInterrupt
        original(stage, task)

    monkeypatch.setattr(executors, "run_and_mark", run_or_die)
    num_kills = 0
    while True:
        try:
            build(config)
            break
        except KeyboardInterrupt:
            num_kills += 1
            assert not (config.output_dir / "manifest.json").exists()
    assert num_kills > 5
    assert _bytes(tmp_path / "out") == reference


def test_kill_9_and_again_gives_the_same_bytes(
    dump: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    config = tmp_path / "config.yaml"
    config.write_text(
        "buckets: 4\ntokenizer: {vocab_size: 400}\nsplit: {validation: 0.2, test: 0.2}\n"
        "near_duplicates: {enabled: false}\n"
    )
    arguments = ["data", "build", str(config), f"source.path={dump}", f"output_dir={out}"]
    code = "import sys; from worldpm.cli.main import main; main()"
    command = [sys.executable, "-c", code, *arguments, "executor.workers=1"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not (out / "stages" / "arrange").exists() and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert _bytes(out) == reference


def _fails_with(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The one message of a call that must end with code 2."""
    monkeypatch.setattr(sys, "argv", ["worldpm", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    (message,) = errors.split("error: ")[1:]
    return message


BASE = Path(__file__).parents[2] / "configs" / "data" / "base.yaml"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("pairing.min_margn=2", "unknown key pairing.min_margn; did you mean pairing.min_margin"),
        ("seed=many", "seed"),
        ("pairing.min_margin=0", "a pair needs different scores; use 1 or more"),
        ("source.path=nowhere", "there is no file or folder nowhere"),
        ("buckets=3", "power of two"),
        ("tokenizer.path=nowhere", "tokenizer.json"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_written(  # noqa: PLR0917
    dump: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    out = tmp_path / "out"
    arguments = ["data", "build", str(BASE), f"source.path={dump}", f"output_dir={out}", override]
    assert message in _fails_with(arguments, monkeypatch, capsys)
    assert not out.exists()


def test_a_wrong_dump_is_named_and_nothing_is_written(
    tmp_path: Path,
    posts: SimpleNamespace,
    write_dump: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    source = tmp_path / "dump"
    arguments = ["data", "build", str(BASE), f"source.path={source}", f"output_dir={out}"]
    source.mkdir()
    assert "holds no site" in _fails_with(arguments, monkeypatch, capsys)
    (source / "a.b.7z").write_text("no archive")
    assert "a.b.7z is not a 7z archive" in _fails_with(arguments, monkeypatch, capsys)
    (source / "a.b.7z").unlink()
    write_dump({"empty.site": []})
    assert "the dump is empty" in _fails_with(arguments, monkeypatch, capsys)
    (source / "empty.site" / "Posts.xml").unlink()
    (source / "empty.site").rmdir()
    write_dump({"no-answers.site": [posts.question(i) for i in range(1, 5)]})
    assert "no_answer 4" in _fails_with(arguments, monkeypatch, capsys)
    assert not out.exists()


def test_strict_refuses_damage_that_is_otherwise_counted(
    dump: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    xml = dump / "coffee.example.com" / "Posts.xml"
    xml.write_bytes(xml.read_bytes()[:-200])
    out = tmp_path / "out"
    arguments = ["data", "build", str(BASE), f"source.path={dump}", f"output_dir={out}"]
    arguments.append("executor.workers=1")
    assert "row 160" in _fails_with([*arguments, "--strict"], monkeypatch, capsys)
    assert not out.exists()
    build(_config(dump, out))
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts["ingest"]["dropped"] == {"broken_row": 1, "post_type_5": 1}


def test_a_full_disk_leaves_no_output_and_the_next_build_goes_on(
    dump: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    arguments = ["data", "build", str(BASE), f"source.path={dump}", f"output_dir={out}"]
    arguments += ["executor.workers=1", "tokenizer.vocab_size=400"]
    with monkeypatch.context() as patched:
        patched.setattr(pair_module, "write_groups", full)
        message = _fails_with(arguments, patched, capsys)
    assert "the disk is full" in message
    assert str(out) in message
    assert not any((out / name).exists() for name in PUBLISHED)
    assert (out / "stages" / "arrange" / "manifest.json").exists()
    monkeypatch.setattr(sys, "argv", ["worldpm", *arguments])
    main_succeeds()
    assert (out / "manifest.json").exists()


def main_succeeds() -> None:
    """Run the command line; click ends a success with code 0."""
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0


def test_an_array_without_its_variables_is_named(
    dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    with pytest.raises(Exception, match="SLURM_ARRAY_TASK_ID"):
        build(_config(dump, tmp_path / "out", executor={"kind": "slurm", "workers": 1}))


def test_a_rank_does_not_wait_for_one_that_failed(dump: Path, tmp_path: Path) -> None:
    (dump / "tea.meta.example.com" / "Posts.xml").write_text("<posts></posts>")

    def run(rank: int) -> None:
        executor = {"kind": "slurm", "rank": rank, "world_size": 2, "workers": 1}
        build(_config(dump, tmp_path / "out", executor=executor))

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(run, rank) for rank in range(2)]
        errors = [str(result.exception()) for result in results]
    assert sum("the dump is empty" in error for error in errors) == 2
    assert any(error.startswith("rank 1 failed in ingest") for error in errors)
    with pytest.raises(InputError):
        build(_config(dump, tmp_path / "other"))


@pytest.mark.filterwarnings("ignore::Warning:ray.*")
def test_ray_tasks_write_the_same_bytes_as_one_process(
    dump: Path, tmp_path: Path, reference: dict[str, bytes]
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    executor = {"kind": "ray", "workers": 2}
    build(_config(dump, tmp_path / "out", buckets=4, executor=executor))
    assert _bytes(tmp_path / "out") == reference
    (dump / "tea.meta.example.com" / "Posts.xml").write_text("<posts></posts>")
    with pytest.raises(InputError, match="the dump is empty"):
        build(_config(dump, tmp_path / "other", executor=executor))


def test_ray_that_is_not_installed_is_named(
    dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'worldpm\[ray\]'"):
        build(_config(dump, tmp_path / "out", executor={"kind": "ray", "workers": 1}))
