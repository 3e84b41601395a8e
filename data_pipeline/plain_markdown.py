"""A plain HTML to Markdown converter that loses no text, whatever the nesting.

It reads the tags as a flat stream, so a post with twenty thousand open elements needs no recursion.
Used where the fast converter drops text; it knows fewer elements.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

BLOCKS = frozenset(
    ("p", "div", "ul", "ol", "table", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "hr")
)
MARKS = {"b": "**", "strong": "**", "i": "*", "em": "*", "code": "`", "s": "~~", "del": "~~"}
# Deeper quotes are written at this depth: no reader tells them apart.
MAX_QUOTE_DEPTH = 8

_LANGUAGE = re.compile(r"\blang(?:uage)?-([\w+#-]+)")
_SPACE = re.compile(r"\s+")


def to_plain_markdown(html: str) -> str:
    """Convert one post's body."""
    writer = _Writer()
    writer.feed(html)
    writer.close()
    return writer.text()


class _Writer(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._quote_depth = 0
        self._lists: list[str] = []
        self._code: list[str] | None = None
        self._language = ""
        self._links: list[str] = []

    def text(self) -> str:
        if self._code is not None:
            self._end_code()
        joined = "".join(self._parts)
        lines = [line.rstrip() for line in joined.split("\n")]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "pre":
            self._code = []
            language = _LANGUAGE.search(values.get("class", ""))
            self._language = language[1] if language else ""
        elif self._code is not None:
            return
        elif tag == "blockquote":
            self._quote_depth = self._quote_depth + 1
            self._break()
        elif tag in ("ul", "ol"):
            self._lists.append("-" if tag == "ul" else "1.")
            self._break()
        elif tag == "li":
            indent = "  " * (min(len(self._lists), MAX_QUOTE_DEPTH) - 1)
            self._line()
            self._parts.append(f"{indent}{self._lists[-1] if self._lists else '-'} ")
        elif tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self._break()
            self._parts.append("#" * int(tag[1]) + " ")
        else:
            self._start_inline(tag, values)

    def _start_inline(self, tag: str, values: dict[str, str]) -> None:
        if tag in BLOCKS:
            self._break()
        elif tag == "br":
            self._line()
        elif tag in ("td", "th"):
            self._parts.append("| ")
        elif tag == "img":
            self._parts.append(f"![{values.get('alt', '')}]({values.get('src', '')})")
        elif tag == "a":
            self._links.append(values.get("href", ""))
            self._parts.append("[")
        else:
            self._parts.append(MARKS.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._end_code()
        elif self._code is not None:
            return
        elif tag == "blockquote":
            self._quote_depth = max(0, self._quote_depth - 1)
            self._break()
        elif tag in ("ul", "ol"):
            self._lists = self._lists[:-1]
            self._break()
        elif tag in BLOCKS:
            self._break()
        elif tag == "a" and self._links:
            self._parts.append(f"]({self._links.pop()})")
        elif tag not in ("a", "br", "img"):
            self._parts.append(MARKS.get(tag, ""))

    def handle_data(self, data: str) -> None:
        if self._code is not None:
            self._code.append(data)
        else:
            self._parts.append(_SPACE.sub(" ", data))

    def _end_code(self) -> None:
        code = "".join(self._code or []).removeprefix("\n").rstrip("\n")
        self._code = None
        longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
        fence = "`" * max(3, longest + 1)
        self._break()
        prefix = self._prefix()
        self._parts.append(f"{fence}{self._language}\n{prefix}" + code.replace("\n", f"\n{prefix}"))
        self._parts.append(f"\n{prefix}{fence}")
        self._break()

    def _prefix(self) -> str:
        return "> " * min(self._quote_depth, MAX_QUOTE_DEPTH)

    def _line(self) -> None:
        self._parts.append("\n" + self._prefix())

    def _break(self) -> None:
        self._parts.append("\n\n" + self._prefix())
