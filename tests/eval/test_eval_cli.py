"""`worldpm eval` on a checkpoint, on a server and on files, as a user calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from worldpm.cli.main import cli
from worldpm.errors import ConfigError, InputError
from worldpm.group_files import read_group_file

ROOT = Path(__file__).parent.parent.parent
QUICK = str(ROOT / "configs" / "eval" / "quick.yaml")


def _call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["eval", *arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with random weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    from worldpm.chat_template import CHATML_OWN, Encoder
    from worldpm.modeling.checkpoint_io import save_portable
    from worldpm.modeling.preference_model import PreferenceModel

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"])
    architecture = {
        "model_type": "qwen2",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "rope_theta": 1e4,
    }
    model = PreferenceModel.from_architecture(architecture, seed=1, head_init="inverse_sqrt")
    with torch.no_grad():
        for parameter in model.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    folder = tmp_path_factory.mktemp("model") / "checkpoint"
    save_portable(model, Encoder(tokenizer, CHATML_OWN), folder)
    return folder


@pytest.fixture
def data_dir(tmp_path: Path, write_lines: Callable[..., Path]) -> Path:
    """The generator's three sets, made up, and a PandaLM file."""
    for kind in ("adversarial", "objective", "subjective"):
        groups = [
            {
                "id": f"{kind}.example/{index}",
                "prompt": [{"role": "user", "content": f"What is {index} plus {index}?"}],
                "responses": [f"It is {2 * index}.", f"It is {index}, I think, or **more**."],
                "pairs": [[0, 1]],
            }
            for index in range(15)
        ]
        write_lines(f"data/{kind}.jsonl", groups)
    rows = [
        {
            "idx": index,
            "motivation_app": "app",
            "instruction": "say it",
            "input": "" if index % 2 else "context",
            "response1": f"it {index}",
            "response2": f"that {index}",
            "annotator1": 1,
            "annotator2": index % 3,
            "annotator3": 1 if index % 2 else 0,
        }
        for index in range(12)
    ]
    path = tmp_path / "data" / "pandalm" / "testset-v1.json"
    path.parent.mkdir()
    path.write_text(json.dumps(rows))
    return tmp_path / "data"


def _arguments(data_dir: Path, output_dir: Path, *more: str) -> tuple[str, ...]:
    return (QUICK, f"data_dir={data_dir}", f"output_dir={output_dir}", "num_bootstrap=100", *more)


def _results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_a_checkpoint_is_evaluated_and_its_items_aggregate_to_the_same(
    checkpoint: Path, data_dir: Path, tmp_path: Path
):
    run = tmp_path / "run"
    done = _call("run", *_arguments(data_dir, run, f"model={checkpoint}"))
    assert done.exit_code == 0
    assert "generated-objective" in done.output
    assert "missing judgebench" in done.output
    results = _results(run)
    assert results["benchmarks"]["generated-objective"]["official"]["num_items"] == 15
    assert results["details"]["generated-objective"]["group"] == "objective"
    assert results["probes"]["generated"]["passed"]
    lines = [json.loads(line) for line in (run / "items.jsonl").read_text().splitlines()]
    assert set(lines[0]) == {
        "benchmark",
        "id",
        "scores",
        "prompt_tokens",
        "response_tokens",
        "cut",
    }
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")

    again = tmp_path / "again"
    scores = f"scores={run / 'items.jsonl'}"
    assert _call("aggregate", *_arguments(data_dir, again, scores)).exit_code == 0
    assert _results(again)["benchmarks"] == results["benchmarks"]
    compared = _call("compare", str(run), str(again), "--output-dir", str(tmp_path / "compared"))
    assert compared.exit_code == 0
    assert (tmp_path / "compared" / "compare.csv").is_file()


def test_three_ranks_give_the_results_of_one_process(
    checkpoint: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = f"model={checkpoint}"
    _call("run", *_arguments(data_dir, tmp_path / "one", model))
    for rank in range(2):
        shard = (f"shard.rank={rank}", "shard.world_size=3")
        done = _call("run", *_arguments(data_dir, tmp_path / "three", model, *shard))
        assert f"rank {rank} is done" in done.output
        assert not (tmp_path / "three" / "results.json").exists()
    # The last one as torchrun would start it.
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    _call("run", *_arguments(data_dir, tmp_path / "three", model))
    one, three = _results(tmp_path / "one"), _results(tmp_path / "three")
    for name, blocks in one["benchmarks"].items():
        assert three["benchmarks"][name]["official"]["accuracy"] == blocks["official"]["accuracy"]
        assert three["benchmarks"][name]["worldpm"]["bt_loss"] == pytest.approx(
            blocks["worldpm"]["bt_loss"], abs=1e-6
        )


def test_a_server_is_evaluated_like_a_model(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_scorer
):
    from worldpm.client import ModelInfo

    class Client:
        def __init__(self, url: str) -> None:
            assert url == "http://host:1"
            self.score = make_scorer().score

        def model_info(self) -> ModelInfo:
            return ModelInfo("m", None, None, 2048)

    monkeypatch.setattr("worldpm.client.ScoringClient", Client)
    done = _call("run", *_arguments(data_dir, tmp_path / "e", "server=http://host:1"))
    assert done.exit_code == 0
    block = _results(tmp_path / "e")["benchmarks"]["generated-objective"]["official"]
    assert block["accuracy"] == block["length_baseline"]


def test_prepared_test_sets_carry_the_papers_pairs_and_an_index(data_dir: Path, tmp_path: Path):
    done = _call("prepare", *_arguments(data_dir, tmp_path / "sets"))
    assert done.exit_code == 0
    index = yaml.safe_load((tmp_path / "sets" / "test_sets.yaml").read_text())["test_sets"]
    assert set(index) == {
        "pandalm",
        "generated-adversarial",
        "generated-objective",
        "generated-subjective",
    }
    assert index["pandalm"]["kind"] == "subjective"
    groups = list(read_group_file(Path(index["generated-objective"]["path"])))
    assert len(groups) == 15
    assert groups[0].group_id == "objective/objective.example/0"
    assert [(pair.chosen, pair.rejected) for pair in groups[0].pairs] == [(0, 1)]


def test_prepared_groups_hold_only_responses_that_a_pair_names(
    tmp_path: Path, write_array: Callable[..., Path]
):
    row = {
        "id": 1,
        "prompt": "p",
        "chosen": ["c0", "c1", "c2"],
        "rejected": ["r0", "r1", "r2"],
    }
    same = {**row, "id": 2, "rejected": ["r0", "r1", "c2"]}
    write_array("data/rm-bench/chat_filtered.json", [row, same])
    _call("prepare", *_arguments(tmp_path / "data", tmp_path / "sets"))
    [group] = read_group_file(tmp_path / "sets" / "rm-bench-chat.jsonl")
    assert group.responses == ("c2", "r2")
    assert [(pair.chosen, pair.rejected) for pair in group.pairs] == [(0, 1)]


@pytest.mark.parametrize(
    ("verb", "more", "error", "reason"),
    [
        ("run", (), ConfigError, "name one of model=FOLDER and server=URL"),
        ("run", ("model=a", "server=b"), ConfigError, "name one of"),
        ("run", ("shard.rank=1",), ConfigError, "go together"),
        ("run", ("shard.rank=3", "shard.world_size=3"), ConfigError, "does not exist"),
        ("run", ("benchmarks=[llmbar, llmbar]",), ConfigError, "more than once"),
        ("aggregate", (), ConfigError, "scores is not set"),
        ("aggregate", ("scores=none.jsonl",), InputError, "no file none.jsonl"),
        ("aggregate", ("scores=x", "benchmarks=[judgebench]"), InputError, "none of the benchm"),
        ("aggregate", ("benchmark=[judgebench]",), ConfigError, "did you mean benchmarks"),
    ],
)
def test_a_mistake_is_named(request: pytest.FixtureRequest, verb, more, error, reason):
    output_dir = request.getfixturevalue("tmp_path") / "e"
    with pytest.raises(error, match=reason):
        _call(verb, *_arguments(request.getfixturevalue("data_dir"), output_dir, *more))
    assert not output_dir.exists()
