"""`worldpm finetune` from every kind of folder: what it keeps, what it says, what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worldpm.training.finetuning.running import (
    ROOT,
    measured_scores,
    run_finetune,
    scores_of,
)
from worldpm.config import load_config
from worldpm.errors import ConfigError
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.tensor_files import read_tensor, read_tensor_index
from worldpm.run_record import RunRecord
from worldpm.training.assembly import build_model, open_data
from worldpm.training.finetuning.comparison import kept_step
from worldpm.training.finetuning.config import FinetuneConfig
from worldpm.training.finetuning.preparation import prepare_data


@pytest.fixture(scope="module")
def from_base(
    base_folder: Path,
    preference_file: Path,
    test_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    run = tmp_path_factory.mktemp("from_base") / "run"
    assert run_finetune(base_folder, preference_file, test_file, run).exit_code == 0
    return run


def test_a_base_model_gets_a_new_head_and_the_record_says_so(from_base: Path) -> None:
    assert RunRecord.read(from_base).head_state == "initialised"
    card = json.loads((from_base / "model/worldpm.json").read_text())
    assert card["provenance"]["head_before_training"] == "initialised"


def test_the_set_is_learnt_and_the_gain_is_significant(from_base: Path) -> None:
    result = json.loads((from_base / "comparison.json").read_text())["held_out"]
    assert result["after"]["accuracy"] > 0.8
    assert result["gain"]["p_value"] < 0.01
    assert result["gain"]["accuracy_interval"][0] > 0


def test_the_model_kept_is_that_of_the_lowest_validation_loss(
    from_base: Path, test_file: Path
) -> None:
    step = kept_step(from_base)
    card = json.loads((from_base / "model/worldpm.json").read_text())
    assert card["provenance"]["step"] == step
    np.testing.assert_allclose(
        scores_of(from_base / "model", test_file), measured_scores(from_base, step), atol=1e-5
    )


def load_start(folder: Path, run: Path, *settings: str) -> PreferenceModel:
    """The model as the trainer has it before the first step of a run that was prepared."""
    config = load_config(
        FinetuneConfig,
        ROOT / "configs/finetune/tiny.yaml",
        [f"model.init_from={folder}", f"output_dir={run}", *settings],
    )
    prepare_data(config)
    return build_model(config, open_data(config), torch.device("cpu"), {})


@pytest.mark.parametrize(
    ("fixture", "template"),
    [
        ("released_folder", "null"),
        ("skywork_llama_folder", "llama3-end"),
        ("skywork_qwen3_folder", "qwen3-end"),
    ],
)
def test_a_trained_head_is_kept_bit_for_bit(
    fixture: str,
    template: str,
    preference_file: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    folder = request.getfixturevalue(fixture)
    model = load_start(
        folder,
        tmp_path / "run",
        f"preferences.source.path={preference_file}",
        f"preferences.template={template}",
        "preferences.max_tokens=128",
    )
    stored = {name: read_tensor(entry, name) for name, entry in read_tensor_index(folder).items()}
    head = {f"score.{name}": tensor for name, tensor in model.score.state_dict().items()}
    assert model.head_state == "loaded"
    assert head
    assert all(torch.equal(tensor, stored[name]) for name, tensor in head.items())


def test_a_head_is_reset_only_when_asked(
    released_folder: Path, preference_file: Path, tmp_path: Path
) -> None:
    model = load_start(
        released_folder,
        tmp_path / "run",
        f"preferences.source.path={preference_file}",
        "preferences.max_tokens=128",
        "model.head.on_load=reset",
    )
    assert model.head_state == "reset"


def test_the_released_layout_stays_the_released_layout(
    released_folder: Path, preference_file: Path, test_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = run_finetune(released_folder, preference_file, test_file, run, "batch.epochs=2")
    assert result.exit_code == 0
    assert RunRecord.read(run).head_state == "loaded"
    # Before the first step the run measures what the folder's own scores are.
    np.testing.assert_allclose(
        measured_scores(run, 0), scores_of(released_folder, test_file), atol=1e-5
    )
    config = json.loads((run / "model/config.json").read_text())
    assert config["architectures"] == ["Qwen2ForRewardModel"]
    np.testing.assert_allclose(
        measured_scores(run, kept_step(run)), scores_of(run / "model", test_file), atol=1e-5
    )


def test_a_trained_head_without_a_template_is_not_guessed(
    skywork_llama_folder: Path, preference_file: Path, test_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"preferences\.template"):
        run_finetune(skywork_llama_folder, preference_file, test_file, tmp_path / "run")


def test_a_baseline_run_stands_beside_in_the_table(
    from_base: Path, preference_file: Path, test_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    further = [f"baseline={from_base}", "batch.epochs=2", f"data.path={tmp_path / 'data'}"]
    result = run_finetune(from_base / "model", preference_file, test_file, run, *further)
    assert result.exit_code == 0
    compared = json.loads((run / "comparison.json").read_text())
    baseline = json.loads((from_base / "comparison.json").read_text())
    for name in ("validation", "held_out"):
        assert compared[name]["baseline"] == pytest.approx(baseline[name]["after"])
        assert compared[name]["over_baseline"]["accuracy"] == pytest.approx(
            compared[name]["after"]["accuracy"] - compared[name]["baseline"]["accuracy"]
        )
    # The run began where the baseline ended.
    assert compared["held_out"]["before"] == pytest.approx(baseline["held_out"]["after"], abs=1e-4)


def test_a_finished_run_is_not_trained_again(
    from_base: Path, base_folder: Path, preference_file: Path, test_file: Path
) -> None:
    before = (from_base / "metrics.jsonl").read_bytes()
    assert run_finetune(base_folder, preference_file, test_file, from_base).exit_code == 0
    assert (from_base / "metrics.jsonl").read_bytes() == before


def test_a_base_model_without_weights_to_begin_from_is_refused(preference_file: Path) -> None:
    settings = ["model.init_from=null", "model.architecture=configs/model/tiny-1.yaml"]
    with pytest.raises(ConfigError, match="worldpm train"):
        load_config(FinetuneConfig, ROOT / "configs/finetune/tiny.yaml", settings)
