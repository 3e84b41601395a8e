"""Small documents of blocks, written as the HTML of a dump or as the Markdown a reader gets."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Literal

BlockKind = Literal["paragraph", "ordered", "bullets", "heading", "code", "quote"]

# Bold spans are marked by characters that no text contains, so that both writers can escape first.
BOLD_START, BOLD_END = "\x01", "\x02"

_XML_ATTRIBUTE = (
    ("&", "&amp;"),  # first: the others bring ampersands
    ("<", "&lt;"),
    (">", "&gt;"),
    ('"', "&quot;"),
    ("\n", "&#xA;"),
    ("\t", "&#x9;"),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list, heading, code block or quote; `lines` are its items or its one text."""

    kind: BlockKind
    lines: tuple[str, ...]


def bold(text: str) -> str:
    """Mark a span as bold."""
    return f"{BOLD_START}{text}{BOLD_END}"


def to_html(blocks: list[Block]) -> str:
    """The HTML that the publisher stores in `Body`."""
    return "".join(_block_html(block) + "\n" for block in blocks)


def to_markdown(blocks: list[Block]) -> str:
    """The Markdown that the pipeline makes of the HTML."""
    return "\n\n".join(_block_markdown(block) for block in blocks)


def xml_attribute(text: str) -> str:
    """Escape a text for an attribute the way the publisher does."""
    for character, entity in _XML_ATTRIBUTE:
        text = text.replace(character, entity)
    return text


def _inline_html(text: str) -> str:
    return escape(text, quote=False).replace(BOLD_START, "<strong>").replace(BOLD_END, "</strong>")


def _block_html(block: Block) -> str:
    lines = [_inline_html(line) for line in block.lines]
    match block.kind:
        case "paragraph":
            return f"<p>{lines[0]}</p>"
        case "heading":
            return f"<h2>{lines[0]}</h2>"
        case "code":
            return f"<pre><code>{lines[0]}\n</code></pre>"
        case "quote":
            return f"<blockquote>\n<p>{lines[0]}</p>\n</blockquote>"
        case "ordered":
            return "<ol>\n" + "".join(f"<li>{line}</li>\n" for line in lines) + "</ol>"
        case "bullets":
            return "<ul>\n" + "".join(f"<li>{line}</li>\n" for line in lines) + "</ul>"


def _block_markdown(block: Block) -> str:
    lines = [line.replace(BOLD_START, "**").replace(BOLD_END, "**") for line in block.lines]
    match block.kind:
        case "paragraph":
            return lines[0]
        case "heading":
            return f"## {lines[0]}"
        case "code":
            return f"```\n{lines[0]}\n```"
        case "quote":
            return f"> {lines[0]}"
        case "ordered":
            return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
        case "bullets":
            return "\n".join(f"- {line}" for line in lines)
