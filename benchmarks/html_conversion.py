"""Speed and faithfulness of HTML to Markdown on real posts, against the converters others use.

    .venv/bin/pip install markdownify html2text beautifulsoup4
    .venv/bin/python benchmarks/html.py ../shared/data/stackexchange

Code blocks and MathJax spans are looked for in the Markdown, white space aside: a code block counts
as unchanged if all its lines are there in turn, a formula if its characters are. Prints tables, and
as the last line one JSON object. A converter that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
from lxml import html as lxml_html
from measure import best_of, print_ratios, print_table

from data_pipeline.html_text import to_markdown
from data_pipeline.plain_markdown import to_plain_markdown
from data_pipeline.sources.discovery import find_sites
from data_pipeline.stages.ingest import ingest_site

# A formula holds a command, an index or an operator between dollars: prices do not.
MATH = re.compile(r"\$\$.+?\$\$|\$(?=[^$\n]*[\\_^={}])[^$\n]+?\$", re.DOTALL)


def read_bodies(dump: Path, work: Path) -> list[str]:
    """The HTML of every question and answer of a dump."""
    for site in find_sites(dump):
        ingest_site(site, work, strict=False)
    return [body for path in sorted(work.glob("*.parquet")) for body in _bodies(path)]


def _bodies(path: Path) -> list[str]:
    return pq.read_table(path, columns=["body"])["body"].to_pylist()


def converters() -> dict[str, Callable[[str], str]]:
    """What is installed."""
    found: dict[str, Callable[[str], str]] = {
        "worldpm": lambda html: to_markdown(html)[0],
        "worldpm, plain fallback": to_plain_markdown,
    }
    for module, name in (
        ("markdownify", "markdownify"),
        ("html2text", "html2text"),
        ("bs4", "bs4"),
    ):
        try:
            loaded = importlib.import_module(module)
        except ImportError:
            continue
        if name == "bs4":
            found["bs4 get_text"] = lambda html, m=loaded: m.BeautifulSoup(html, "lxml").get_text()
        else:
            found[name] = getattr(loaded, name)
    return found


def code_blocks(html: str) -> list[list[str]]:
    """The lines of each code block, stripped: quotes and lists indent them."""
    root = lxml_html.fromstring(f"<div>{html}</div>")
    # A link inside a code block has no Markdown; such blocks are no test.
    blocks = [block for block in root.iter("pre") if block.find(".//a") is None]
    return [
        [line.strip() for line in block.text_content().strip("\n").split("\n")] for block in blocks
    ]


def formulas(html: str) -> list[str]:
    """MathJax spans outside code, without white space."""
    root = lxml_html.fromstring(f"<div>{html}</div>")
    for code in [*root.iter("pre"), *root.iter("code")]:
        code.clear(keep_tail=True)
    return ["".join(span.split()) for span in MATH.findall(root.text_content())]


def kept_code(blocks: list[list[str]], markdown: str) -> int:
    """How many of the blocks stand in the Markdown."""
    lines = "\n".join(line.strip(" >\t") for line in markdown.split("\n"))
    return sum("\n".join(line.strip(" >\t") for line in block) in lines for block in blocks)


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dump", type=Path)
    parser.add_argument("--timed-posts", type=int, default=4000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bodies = read_bodies(arguments.dump, Path(folder))
    with_code = [(body, code_blocks(body)) for body in bodies if "<pre" in body]
    with_math = [(body, spans) for body in bodies if "$" in body and (spans := formulas(body))]
    num_code = sum(len(blocks) for _, blocks in with_code)
    num_math = sum(len(spans) for _, spans in with_math)
    step = max(1, len(bodies) // arguments.timed_posts)
    timed = bodies[::step]
    rows: list[tuple[object, ...]] = []
    speed: dict[str, float] = {}
    kept: dict[str, tuple[float, float]] = {}
    for name, convert in converters().items():
        _, seconds = best_of(2, lambda: [convert(body) for body in timed])  # noqa: B023
        code = sum(kept_code(blocks, convert(body)) for body, blocks in with_code)
        math = sum(
            span in "".join(convert(body).split()) for body, spans in with_math for span in spans
        )
        speed[name] = len(timed) / seconds.cpu_s
        kept[name] = (code / num_code, math / num_math)
        rows.append(
            (name, f"{speed[name]:,.0f}", *(f"{100 * share:.1f} %" for share in kept[name]))
        )
    print(f"{len(bodies):,} posts, {num_code:,} code blocks, {num_math:,} formulas\n")
    print_table(("converter", "posts / CPU s", "code unchanged", "formulas intact"), rows)
    ratios = {
        f"faster_than_{name}": speed["worldpm"] / other
        for name, other in speed.items()
        if name in ("markdownify", "html2text")
    }
    code_share, math_share = kept["worldpm"]
    print_ratios(**ratios, code_unchanged=code_share, formulas_intact=math_share)


if __name__ == "__main__":
    main()
