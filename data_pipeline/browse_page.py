"""Groups as a web page on this machine: nothing is loaded from elsewhere, every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from data_pipeline.browse import Filters, count_by_site, find_groups
from data_pipeline.group_tables import MARGIN_BUCKETS
from worldpm.errors import WorldPMError
from worldpm.log import logger
from worldpm.schema import SPLITS

GROUPS_PER_PAGE = 20
FILTERS = ("site", "tag", "margin", "split", "text")
STYLE = (Path(__file__).parent / "browse.css").read_text(encoding="utf-8")
# Nothing but our own style may load, and no other page may frame this one.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"


def render_page(build_dir: Path, query: str) -> str:
    """The page for a query string such as `site=a.b&margin=3-5&page=2`.

    Raises:
        WorldPMError: the folder holds no groups, or a filter has no such value.
    """
    values = {name: texts[0] for name, texts in parse_qs(query).items()}
    page = int(values["page"]) if values.get("page", "").isdigit() else 1
    page = max(1, page)
    filters = Filters(**{name: values[name] for name in FILTERS if values.get(name)})
    groups = find_groups(
        build_dir, filters, limit=GROUPS_PER_PAGE + 1, offset=(page - 1) * GROUPS_PER_PAGE
    )
    shown = "".join(render_group(group) for group in groups[:GROUPS_PER_PAGE])
    body = (
        f"<h1>{escape(build_dir.resolve().name)}</h1>{_form(build_dir, values)}"
        f"{shown or '<p>No group fits.</p>'}"
        f"{_pages(values, page, is_last=len(groups) <= GROUPS_PER_PAGE)}"
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Preference pairs</title>"
        f"<style>{STYLE}</style></head><body>{body}</body></html>"
    )


def render_group(group: dict[str, Any]) -> str:
    """One group: question, then the answers by score, those in a pair marked."""
    chosen = {pair["chosen"] for pair in group["pairs"]}
    rejected = {pair["rejected"] for pair in group["pairs"]}
    order = sorted(enumerate(group["responses"]), key=lambda item: -item[1]["score"])
    answers = "".join(
        _answer(response, group["site"], number in chosen, number in rejected)
        for number, response in order
    )
    url = f"https://{group['site']}/questions/{group['question_id']}"
    tags = " ".join(f"<span class=tag>{escape(tag)}</span>" for tag in group["tags"] or [])
    facts = f"{group['split']} · margin {', '.join(group['margin_buckets'])}"
    prompt = "\n\n".join(turn["content"] for turn in group["prompt"])
    return (
        f"<article><header><a href='{escape(url)}' rel=noreferrer>{escape(group['group_id'])}</a> "
        f"{tags} <small>{escape(facts)}</small></header><pre>{escape(prompt)}</pre>{answers}"
        "</article>"
    )


def _answer(response: dict[str, Any], site: str, is_chosen: bool, is_rejected: bool) -> str:
    kind = " ".join(
        name for name, is_it in (("chosen", is_chosen), ("rejected", is_rejected)) if is_it
    )
    accepted = " · accepted" if response["is_accepted"] else ""
    url = f"https://{site}/a/{response['response_id']}"
    author = response["author"] or "deleted account"
    facts = f"score {response['score']}{accepted} · {author} · {response['licence']}"
    return (
        f"<section class='{kind}'><header><b>{kind or 'not in a pair'}</b> "
        f"<a href='{escape(url)}' rel=noreferrer>{escape(facts)}</a></header>"
        f"<pre>{escape(response['content'])}</pre></section>"
    )


def _form(build_dir: Path, values: dict[str, str]) -> str:
    sites = [site for site, _ in count_by_site(build_dir)]
    fields = [
        _select("site", sites, values),
        _select("margin", MARGIN_BUCKETS, values),
        _select("split", SPLITS, values),
        _input("tag", values),
        _input("text", values),
    ]
    return f"<form>{''.join(fields)}<button>Search</button></form>"


def _select(name: str, choices: Sequence[str], values: dict[str, str]) -> str:
    options = "".join(
        f"<option{' selected' if choice == values.get(name) else ''}>{escape(choice)}</option>"
        for choice in ("", *choices)
    )
    return f"<label>{name} <select name={name}>{options}</select></label>"


def _input(name: str, values: dict[str, str]) -> str:
    return f"<label>{name} <input name={name} value='{escape(values.get(name, ''))}'></label>"


def _pages(values: dict[str, str], page: int, *, is_last: bool) -> str:
    kept = {name: values[name] for name in FILTERS if values.get(name)}
    links = {"previous": page - 1 if page > 1 else None, "next": None if is_last else page + 1}
    return (
        "<nav>"
        + " ".join(
            f"<a href='?{escape(urlencode({**kept, 'page': number}))}'>{name}</a>"
            for name, number in links.items()
            if number is not None
        )
        + f" <small>page {page}</small></nav>"
    )


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, build_dir: Path, *args: Any) -> None:
        self._build_dir = build_dir
        super().__init__(*args)

    def do_GET(self) -> None:
        # A foreign page must not reach this server under a host name of its own.
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        if host not in ("127.0.0.1", "localhost"):
            self._answer(403, "<p>Open this page as http://127.0.0.1</p>")
            return
        parts = urlsplit(self.path)
        if parts.path != "/":
            self._answer(404, "<p>There is one page only: /</p>")
            return
        try:
            self._answer(200, render_page(self._build_dir, parts.query))
        except WorldPMError as exc:
            self._answer(400, f"<p>{escape(str(exc))}</p>")

    def _answer(self, status: int, page: str) -> None:
        data = page.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def make_server(build_dir: Path, port: int) -> ThreadingHTTPServer:
    """A server of the page on this machine only; port 0 takes any free one.

    Raises:
        WorldPMError: the folder holds no groups, or the port is taken.
    """
    count_by_site(build_dir)
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, build_dir))
    except OSError as exc:
        raise WorldPMError(f"port {port} cannot be used ({exc.strerror}): name another") from exc
