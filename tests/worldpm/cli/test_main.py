"""The command line's manners: exit codes, messages, and a help that imports nothing heavy."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import click
import pytest

from worldpm.cli import main as cli_main
from worldpm.errors import InputError

HEAVY = ("torch", "deepspeed", "transformers", "duckdb", "pyarrow", "scipy", "matplotlib", "rich")


def test_the_help_imports_no_heavy_package() -> None:
    code = (
        "import sys; sys.argv = ['worldpm', '--help']\n"
        "from worldpm.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_every_verb_has_a_help_of_its_own() -> None:
    for verb in cli_main.VERBS:
        command = cli_main.cli.get_command(click.Context(cli_main.cli), verb)
        assert command is not None
        assert command.help


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("no such dump: name a folder"), "error: no such dump: name a folder\n"),
        (OSError(errno.ENOSPC, "full", "out/x"), "error: the disk is full while writing out/x"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli_main, "cli", fail)
    with pytest.raises(SystemExit) as exit_info:
        cli_main.main()
    assert exit_info.value.code == 2
    output = capsys.readouterr()
    assert output.err.startswith(message)
    assert output.out == ""


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(cli_main, "cli", fail)
    with pytest.raises(KeyError):
        cli_main.main()


def test_an_unknown_verb_exits_with_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worldpm.cli.main", "trian"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "trian" in done.stderr
