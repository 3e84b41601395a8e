"""Looking at groups: filters find what they say, in the terminal and on the page."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from data_pipeline.browse import Filters, count_by_site, find_groups
from data_pipeline.browse_page import GROUPS_PER_PAGE, make_server, render_page
from data_pipeline.config import DataConfig
from data_pipeline.pipeline import build
from worldpm.cli.data import command
from worldpm.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, dump_module: Any) -> Path:
    """A build of two sites; one question holds markup and control characters."""
    folder = tmp_path_factory.mktemp("browse")
    posts: SimpleNamespace = dump_module.posts
    hostile = [
        posts.question(9001, Body="&lt;script&gt;alert(1)&lt;/script&gt;", Tags="<odd>"),
        posts.answer(9002, 9001, 1, Body="plain \x1b[31m &amp; text"),
        posts.answer(9003, 9001, 40, OwnerUserId="", Body="the winner"),
    ]
    dump = dump_module.write(folder, {"coffee.a.b": posts.many(30), "tea.a.b": hostile})
    config = {
        "source": {"path": dump},
        "output_dir": folder / "out",
        "tokenizer": {"vocab_size": 400},
        "executor": {"workers": 1},
    }
    build(DataConfig.model_validate(config))
    return folder / "out"


def test_filters_find_what_they_say(out: Path) -> None:
    assert count_by_site(out) == [("coffee.a.b", 30), ("tea.a.b", 1)]
    assert len(find_groups(out, Filters(), limit=100)) == 31
    (odd,) = find_groups(out, Filters(tag="odd"), limit=9)
    assert odd["group_id"] == "tea.a.b/9001"
    assert find_groups(out, Filters(site="tea.a.b", margin="11+"), limit=9) == [odd]
    assert find_groups(out, Filters(text="THE WINNER"), limit=9) == [odd]
    assert find_groups(out, Filters(site="tea.a.b", margin="1-2"), limit=9) == []
    first, second = (find_groups(out, Filters(), limit=3, offset=i) for i in (0, 3))
    assert not {g["group_id"] for g in first} & {g["group_id"] for g in second}


def test_a_wrong_filter_or_folder_is_named(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'9' is not one of 1-2, 3-5"):
        find_groups(out, Filters(margin="9"), limit=1)
    with pytest.raises(InputError, match="output_dir of a data build"):
        find_groups(tmp_path, Filters(), limit=1)


def test_the_terminal_shows_pairs_and_no_control_characters(out: Path) -> None:
    result = CliRunner().invoke(command, ["inspect", str(out), "--site", "tea.a.b"])
    assert result.exit_code == 0
    assert "--- chosen (score 40; margin 11+)\nthe winner" in result.output
    assert "\x1b[31m" not in result.output
    nothing = CliRunner().invoke(command, ["inspect", str(out), "--tag", "none"])
    assert "no group fits" in nothing.output


def test_the_page_escapes_posts_and_pages_through(out: Path) -> None:
    page = render_page(out, "site=tea.a.b")
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "deleted account" in page
    first, second = render_page(out, ""), render_page(out, "page=2")
    assert first.count("<article>") == GROUPS_PER_PAGE
    assert second.count("<article>") == 31 - GROUPS_PER_PAGE
    assert "page=2" in first
    assert "page=3" not in second


def test_the_server_answers_this_machine_only(out: Path) -> None:
    with make_server(out, 0) as server:
        host, port = server.server_address[:2]
        assert host == "127.0.0.1"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            assert _get(port, "/?margin=11%2B")[0] == 200
            assert _get(port, "/?margin=9")[0] == 400
            assert _get(port, "/etc")[0] == 404
            assert _get(port, "/", host="evil.example")[0] == 403
        finally:
            server.shutdown()
            thread.join()


def _get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
