"""Run directories become tables of scores, and nothing is left out without a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from scaling.collect import (
    choose_runs,
    find_runs,
    read_score_tables,
    summarise_left_out,
    usable_points,
)
from scaling.loss_series import item_losses
from worldpm.errors import InputError
from worldpm.run_record import eval_path, read_evals


def _tables(root: Path):
    runs, unreadable = find_runs(root)
    chosen, not_chosen = choose_runs(runs)
    points, kinds, unused = usable_points(chosen, min_pairs=1)
    tables, dropped = read_score_tables(points, kinds)
    return tables, [*unreadable, *not_chosen, *unused, *dropped]


def test_losses_from_scores_equal_the_recorded_ones(write_run, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", size=1, num_points=4, num_items=30)
    tables, _ = _tables(tmp_path)
    recorded = [record for record in read_evals(run) if record.num_pairs > 0]
    for table in tables:
        losses = item_losses(table, np.zeros((30, 0)))
        expected = [record.test_sets[table.test_set] for record in recorded]
        assert losses.mean_loss("raw") == pytest.approx([result.bt_loss for result in expected])
        assert losses.accuracy() == pytest.approx([result.accuracy for result in expected])


def test_failed_and_repeated_runs_and_the_first_evaluation_have_their_reasons(
    write_run, tmp_path: Path
) -> None:
    write_run(tmp_path / "a", num_points=4, num_items=20)
    write_run(tmp_path / "b", num_points=3, num_items=20)
    write_run(tmp_path / "c", size=1, num_points=2, num_items=20, status="failed", message="oom")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run.json").write_text("{")
    tables, left_out = _tables(tmp_path)
    assert {point.run for point in tables[0].points} == {"a"}
    reasons = {entry.run: entry.reason for entry in left_out}
    assert "before the first training pair" in reasons["a"]
    assert reasons["b"] == "same size and seed as a, which went further"
    assert "failed at step 2: oom" in reasons["c"]
    assert "no valid JSON" in reasons["d"]
    assert sum(summarise_left_out(left_out).values()) == len(left_out)


def test_a_decayed_run_gives_only_its_end(write_run, tmp_path: Path) -> None:
    write_run(tmp_path / "stable", num_points=4, num_items=20)
    write_run(tmp_path / "short", num_points=3, num_items=20, schedule="wsd")
    write_run(tmp_path / "long", num_points=4, num_items=20, schedule="wsd")
    tables, _ = _tables(tmp_path)
    decayed = [point for point in tables[0].points if point.size == "size-0 (decayed)"]
    assert [(point.run, point.num_pairs) for point in decayed] == [("short", 256), ("long", 512)]


def test_a_pair_that_one_evaluation_lacks_is_used_by_none(write_run, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_points=3, num_items=20)
    path = eval_path(run, 2, ".parquet")
    scores = pq.read_table(path)
    lost = pc.equal(scores["item_id"], "objective/7")
    pq.write_table(scores.filter(pc.invert(lost)), path)
    tables, left_out = _tables(tmp_path)
    by_name = {table.test_set: table for table in tables}
    assert len(by_name["objective"].item_ids) == 19
    assert len(by_name["adversarial"].item_ids) == 20
    assert any(e.test_set == "objective" and e.amount == 1 for e in left_out)


def test_a_score_that_is_no_number_drops_its_pair(write_run, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", num_points=3, num_items=20)
    path = eval_path(run, 4, ".parquet")
    scores = pq.read_table(path)
    values = scores["chosen_score"].to_numpy().copy()
    values[3] = np.nan
    scores = scores.set_column(4, "chosen_score", pa.array(values))
    pq.write_table(scores, path)
    tables, _ = _tables(tmp_path)
    assert sorted(len(table.item_ids) for table in tables) == [19, 20, 20, 20]


def test_missing_directories_and_empty_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no directory of runs"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no run"):
        find_runs(tmp_path)
