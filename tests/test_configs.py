"""Every configuration in `configs/` resolves: its first line is the command that uses it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from worldpm.cli.main import cli

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def _dry_run(arguments: list[str]) -> str:
    result = CliRunner().invoke(cli, [*arguments, "--dry-run"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_configuration_resolves_and_its_dry_run_loads_back(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    first_line = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first_line.startswith("# worldpm "), f"{path}: the first line must be its command"
    arguments = shlex.split(first_line.removeprefix("# worldpm "))
    name = path.relative_to(ROOT).as_posix()
    assert any(name in argument for argument in arguments), f"{name}: its command does not use it"

    printed = _dry_run(arguments)
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(printed, encoding="utf-8")
    config = next(argument for argument in arguments if argument.endswith(".yaml"))
    kept = arguments[: arguments.index(config)]
    assert yaml.safe_load(_dry_run([*kept, str(resolved)])) == yaml.safe_load(printed)
