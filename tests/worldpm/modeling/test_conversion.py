"""Other trainers' reward models become ours with the same scores, or are refused by tensor name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from worldpm.artifacts import read_json, write_json
from worldpm.chat_template import CHATML, CHATML_END, LLAMA3_END, QWEN3_END, ChatTemplate, Encoder
from worldpm.cli.convert import command
from worldpm.errors import CheckpointError, ConfigError
from worldpm.modeling.checkpoint_card import CheckpointCard
from worldpm.modeling.checkpoint_io import load_checkpoint, save_qwen2_rm
from worldpm.modeling.conversion import ConversionOptions, convert, plan_conversion
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.modeling.presets import find_preset
from worldpm.modeling.safetensors_stream import read_stored_tensors
from worldpm.modeling.self_test import score_one
from worldpm.schema import Message

PROMPT = (Message("system", "Be kind."), Message("user", "How are you?"))
QWEN_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"]
LLAMA_SPECIALS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<|finetune_right_pad_id|>",
]  # fmt: skip


class Counter:
    def __init__(self) -> None:
        self.amount = 0

    def advance(self, amount: int = 1) -> None:
        self.amount += amount


MakeFolder = Callable[..., tuple[Path, PreferenceModel]]


@pytest.fixture
def foreign(
    tmp_path: Path,
    make_tokenizer: Callable[[list[str]], Any],
    tiny_architecture: Callable[[str], dict[str, Any]],
) -> MakeFolder:
    """A folder as another project writes it: its tensors, its own Jinja, no file of ours."""

    def make(
        rename: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = lambda t: t,
        *,
        family: str = "qwen2",
        template: ChatTemplate = CHATML_END,
        dtype: torch.dtype = torch.float32,
        head: Any = "linear",
        **config: Any,
    ) -> tuple[Path, PreferenceModel]:
        model = PreferenceModel.from_architecture(
            tiny_architecture(family), seed=4, head=head, head_init="inverse_sqrt", dtype=dtype
        )
        folder = tmp_path / "foreign"
        specials = LLAMA_SPECIALS if family == "llama" else QWEN_SPECIALS
        Encoder(make_tokenizer(specials), template).save(folder)
        (folder / "worldpm_template.json").unlink()
        model.config.save_pretrained(folder)
        values = read_json(folder / "config.json")
        write_json(folder / "config.json", values | {"architectures": ["Foreign"]} | config)
        save_file(rename(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
        return folder, model

    return make


def to_bf16(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.bfloat16() for name, tensor in tensors.items()}


def run(folder: Path, target: Path, **options: Any) -> CheckpointCard:
    convert(plan_conversion(folder, ConversionOptions(**options)), target, progress=Counter())
    return CheckpointCard.read(target)


def scores_equal(model: PreferenceModel, target: Path) -> bool:
    loaded = load_checkpoint(target)
    ours = score_one(loaded.model, loaded.encoder, PROMPT, "Fine.", None)
    return ours == score_one(model.eval(), loaded.encoder, PROMPT, "Fine.", None)


@pytest.mark.parametrize(
    ("family", "template"),
    [("qwen2", CHATML_END), ("qwen3", QWEN3_END), ("llama", LLAMA3_END), ("qwen2", CHATML)],
)
def test_sequence_classifiers_keep_scores_and_the_template_they_render(
    foreign: MakeFolder, tmp_path: Path, family: str, template: ChatTemplate
) -> None:
    folder, model = foreign(family=family, template=template)
    card = run(folder, tmp_path / "ours")
    assert (card.layout, card.template_name) == ("portable", template.name)
    assert scores_equal(model, tmp_path / "ours")


def test_openrlhf_heads_are_found_by_their_prefix(foreign: MakeFolder, tmp_path: Path) -> None:
    folder, model = foreign(
        lambda t: t | {"value_head.weight": t.pop("score.weight")},
        value_head_prefix="value_head",
        mean=1.5,
        std=0.5,
    )
    card = run(folder, tmp_path / "ours")
    assert (card.score_mean, card.score_std) == (1.5, 0.5)
    assert read_json(tmp_path / "ours" / "config.json")["value_head_prefix"] == "score"
    assert scores_equal(model, tmp_path / "ours")


@pytest.mark.parametrize("in_own_file", [True, False])
def test_value_heads_lose_a_bias_only_when_asked(
    foreign: MakeFolder, tmp_path: Path, in_own_file: bool
) -> None:
    head: dict[str, torch.Tensor] = {}

    def rename(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        head["v_head.summary.weight"] = tensors.pop("score.weight")
        head["v_head.summary.bias"] = torch.tensor([0.25])
        tensors["lm_head.weight"] = torch.zeros(384, 64)
        return tensors if in_own_file else tensors | head

    folder, model = foreign(rename)
    if in_own_file:
        save_file(head, folder / "value_head.safetensors")
    with pytest.raises(CheckpointError, match=r"v_head\.summary\.bias is 0\.25.*--drop-bias"):
        run(folder, tmp_path / "ours")
    card = run(folder, tmp_path / "ours", drop_bias=True)
    assert set(card.provenance["dropped_tensors"]) == {"lm_head.weight", "v_head.summary.bias"}
    assert scores_equal(model, tmp_path / "ours")


def test_a_bias_of_zero_is_dropped_without_asking(foreign: MakeFolder, tmp_path: Path) -> None:
    folder, model = foreign(lambda t: t | {"score.bias": torch.zeros(1)})
    run(folder, tmp_path / "ours")
    assert scores_equal(model, tmp_path / "ours")


def test_the_released_layout_makes_the_round_trip_bit_for_bit(
    foreign: MakeFolder, tmp_path: Path
) -> None:
    folder, _ = foreign(to_bf16, head="mlp", template=CHATML)
    card = run(folder, tmp_path / "converted")
    assert (card.layout, card.template_name) == ("qwen2-rm", "chatml")
    assert card.reward_token == "<|endoftext|>"
    original = load_file(folder / "model.safetensors")
    converted = load_file(tmp_path / "converted" / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "converted", dtype="bfloat16")
    save_qwen2_rm(loaded.model, loaded.encoder, tmp_path / "exported")
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    for tensors in (converted, exported):
        assert tensors.keys() == original.keys()
        for name, tensor in original.items():
            assert tensors[name].dtype == tensor.dtype, name
            assert torch.equal(tensors[name], tensor), name


def test_the_released_head_is_linear_relu_linear(foreign: MakeFolder, tmp_path: Path) -> None:
    """Against the head written out, on the backbone that transformers loads."""
    from transformers import Qwen2Model

    folder, _ = foreign(head="mlp", template=CHATML)
    run(folder, tmp_path / "ours")
    loaded = load_checkpoint(tmp_path / "ours")
    encoded = loaded.encoder.encode(PROMPT, ["Fine."])
    ids = encoded.prompt_ids + encoded.response_ids[0]
    tensors = load_file(folder / "model.safetensors")
    backbone = Qwen2Model(loaded.model.config)
    backbone.set_attn_implementation("sdpa")
    backbone.load_state_dict(
        {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    )
    with torch.no_grad():
        hidden = backbone(torch.tensor([ids])).last_hidden_state[0, -1]
        inner = torch.relu(tensors["score.0.weight"] @ hidden + tensors["score.0.bias"])
        expected = tensors["score.2.weight"] @ inner + tensors["score.2.bias"]
    score = score_one(loaded.model, loaded.encoder, PROMPT, "Fine.", None)
    assert score == pytest.approx(expected.item(), abs=1e-5)


def test_presets_check_the_layout_and_carry_published_scores(
    foreign: MakeFolder, tmp_path: Path
) -> None:
    preset = find_preset("worldpm-72b")
    assert [round(test.score, 4) for test in preset.published_scores] == [0.6298, -1.6425]
    folder, _ = foreign(head="mlp", template=CHATML)
    arguments = [str(folder), str(tmp_path / "ours"), "--preset", "worldpm-72b"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert CheckpointCard.read(tmp_path / "ours").published_scores == preset.published_scores
    linear = tmp_path / "foreign" / "model.safetensors"
    tensors = {n: t for n, t in load_file(linear).items() if not n.startswith("score.")}
    save_file(tensors | {"score.weight": torch.zeros(1, 64)}, linear)
    with pytest.raises(CheckpointError, match="layout sequence-classification, expected qwen2-rm"):
        run(folder, tmp_path / "no", expected_layout=preset.layout)
    with pytest.raises(ConfigError, match="unknown preset"):
        find_preset("worldpm-7b")


def test_a_template_that_is_none_of_ours_has_to_be_named(
    foreign: MakeFolder, tmp_path: Path
) -> None:
    folder, _ = foreign()
    jinja = "{% for m in messages %}{{ strftime_now('%d') }}[{{ m.content }}]{% endfor %}"
    (folder / "chat_template.jinja").write_text(jinja)
    with pytest.raises(CheckpointError, match=r"is none of .* it renders '<the date>\[Be brief"):
        run(folder, tmp_path / "ours")
    assert run(folder, tmp_path / "ours", template="chatml").template_name == "chatml"


def test_another_pad_token_can_be_named_but_not_the_reward_token(
    foreign: MakeFolder, tmp_path: Path
) -> None:
    folder, _ = foreign()
    options = {"template": "chatml", "pad_token": "<|im_start|>"}
    assert run(folder, tmp_path / "a", **options).pad_id == 1
    with pytest.raises(CheckpointError, match=r"pad token .* is the reward token"):
        run(folder, tmp_path / "b", template="chatml", pad_token="<|endoftext|>")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("score.weight"), r"no score head \(the tensor score\.weight is missing\)"),
        (lambda t: t.update(strange=torch.zeros(1)), "the tensor strange belongs to neither"),
        (lambda t: t.pop("model.layers.1.mlp.up_proj.weight"), "layers.1.mlp.up_proj.weight is mi"),
        (
            lambda t: t.update({"v_head.summary.weight": torch.zeros(1, 64)}),
            "more than one head",
        ),
    ],
)
def test_what_cannot_be_accounted_for_is_refused(
    foreign: MakeFolder,
    tmp_path: Path,
    edit: Callable[[dict[str, torch.Tensor]], None],
    message: str,
) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        edit(tensors)
        return tensors

    folder, _ = foreign(rename)
    with pytest.raises(CheckpointError, match=message):
        run(folder, tmp_path / "ours")
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]


def test_many_shards_resume_and_give_the_same_tensors(
    foreign: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = foreign(to_bf16)
    options = ConversionOptions(dtype="float32", shard_bytes=60_000)
    plan = plan_conversion(folder, options)
    assert len(plan.shards) > 4
    from worldpm.modeling import conversion

    written: list[str] = []
    real = conversion.write_copies

    def dying(path: Path, copies: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path.name)
        real(path, copies)

    monkeypatch.setattr(conversion, "write_copies", dying)
    with pytest.raises(KeyboardInterrupt):
        convert(plan, tmp_path / "ours", progress=Counter())
    assert not (tmp_path / "ours").exists()
    monkeypatch.setattr(conversion, "write_copies", real)
    progress = Counter()
    assert convert(plan_conversion(folder, options), tmp_path / "ours", progress=progress) == 3
    assert progress.amount == plan.num_bytes
    original = load_file(folder / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "ours").model.state_dict()
    for name, tensor in original.items():
        assert torch.equal(loaded[name], tensor.float()), name
    assert not (tmp_path / "ours" / "conversion.json").exists()


def test_other_options_do_not_reuse_half_a_conversion(foreign: MakeFolder, tmp_path: Path) -> None:
    folder, _ = foreign(to_bf16)
    plan = plan_conversion(folder, ConversionOptions(shard_bytes=60_000))
    other = plan_conversion(folder, ConversionOptions(shard_bytes=60_000, dtype="float32"))
    assert plan.identity != other.identity
    assert plan.identity == plan_conversion(folder, ConversionOptions(shard_bytes=60_000)).identity


def test_an_existing_target_is_left_alone(foreign: MakeFolder, tmp_path: Path) -> None:
    folder, _ = foreign()
    (tmp_path / "ours").mkdir()
    with pytest.raises(CheckpointError, match="exists: name another"):
        run(folder, tmp_path / "ours")


def test_conversion_holds_one_piece_of_a_tensor_in_memory(
    foreign: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of 64 bytes, casts included, still give every tensor whole."""
    from worldpm.modeling import safetensors_stream

    folder, _ = foreign()
    monkeypatch.setattr(safetensors_stream, "PIECE_BYTES", 64)
    run(folder, tmp_path / "ours", dtype="bfloat16")
    converted = load_file(tmp_path / "ours" / "model.safetensors")
    for name, tensor in load_file(folder / "model.safetensors").items():
        expected = tensor if name.startswith("score.") else tensor.bfloat16()
        assert torch.equal(converted[name], expected), name


def test_our_files_are_read_by_the_safetensors_library_and_the_other_way(
    foreign: MakeFolder, tmp_path: Path
) -> None:
    folder, _ = foreign()
    run(folder, tmp_path / "ours")
    for path in (folder / "model.safetensors", tmp_path / "ours" / "model.safetensors"):
        stored = read_stored_tensors(path)
        assert {n: t.shape for n, t in stored.items()} == {
            n: tuple(t.shape) for n, t in load_file(path).items()
        }
    truncated = tmp_path / "cut"
    shutil.copytree(folder, truncated)
    file = truncated / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="ends after the file"):
        plan_conversion(truncated, ConversionOptions())


def test_a_checkpoint_of_ours_keeps_its_template_and_context(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    replace(CheckpointCard.read(tiny_checkpoint), max_tokens=777).write(tiny_checkpoint)
    card = run(tiny_checkpoint, tmp_path / "again", dtype="bfloat16")
    assert card.max_tokens == 777
    assert card.template_name == "chatml-own"


def test_a_dry_run_writes_nothing(foreign: MakeFolder, tmp_path: Path) -> None:
    folder, _ = foreign()
    result = CliRunner().invoke(command, [str(folder), str(tmp_path / "ours"), "--dry-run"])
    assert result.exit_code == 0
    assert "layout sequence-classification -> portable, template chatml-end" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["foreign"]
