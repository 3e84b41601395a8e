"""The page at `/` works in a browser: scores as bars, what was cut struck out, errors said."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from worldpm.serving.config import ServerConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Appended to the page that the test serves itself: a visitor who fills in the form and submits it.
VISITOR = """
<script>
addEventListener("load", () => {
  document.getElementById("prompt").value = PROMPT;
  document.getElementById("add").click();
  const areas = document.querySelectorAll("#responses textarea");
  areas[0].value = "short"; areas[1].value = LONG; areas[2].value = "third";
  document.getElementById("score").click();
});
</script>
"""


def test_the_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "http" not in answer.text.replace("HTTP", "")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
def test_a_visitor_sees_bars_and_what_was_cut(servers, tmp_path: Path, monkeypatch):
    from worldpm.serving.routes import own

    script = VISITOR.replace("PROMPT", '"q".repeat(100)').replace("LONG", '"a".repeat(2000)')
    page = own.read_page()
    monkeypatch.setattr(own, "read_page", lambda: page.replace("</body>", script + "</body>"))
    server = servers.on_socket(ServerConfig(), model_name="<i>tiny")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-sync"]
    command += ["--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=10000", "--dump-dom", server.url]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert dom.count('class="track"') == 3
    assert "Response 2:" in dom
    assert "<del>aaaa" in dom
    # Names and texts are shown as text, never as markup.
    assert "&lt;i&gt;tiny – ready" in dom
