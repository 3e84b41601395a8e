"""Markdown of posts: code, formulas, tables, lists, quotes and links stay; no text is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline import html_text
from data_pipeline.html_text import to_markdown
from data_pipeline.plain_markdown import to_plain_markdown


def _markdown(html: str) -> str:
    text, was_plain = to_markdown(html)
    assert not was_plain
    return text


def test_a_code_block_keeps_every_character_and_its_language() -> None:
    code = 'def f(a_b):\n    return "\\n" * 2  # *not* _text_ <b>\n\n\tx = [1]'
    escaped = code.replace("<", "&lt;")
    html = f'<pre class="lang-py prettyprint-override"><code>{escaped}\n</code></pre>'
    assert _markdown(html) == f"```py\n{code}\n```"


def test_a_fence_is_longer_than_the_backticks_inside() -> None:
    text = _markdown("<pre><code>```\ninner\n```\n</code></pre>")
    assert text.startswith("````")
    assert "```\ninner\n```" in text


@pytest.mark.parametrize(
    "formula",
    [
        r"$\frac{a_1}{b^2} \\ \{x\}$",
        r"$$\begin{align} a &= b \\ c &= d_1 * e_2 \end{align}$$",
        r"\(x_i * y_i\)",
        r"$a_{i_j} < b$",
    ],
)
def test_a_formula_is_kept_character_by_character(formula: str) -> None:
    html = formula.replace("&", "&amp;").replace("<", "&lt;")
    assert formula in _markdown(f"<p>Let {html} be.</p>")


def test_lists_quotes_links_images_tables_and_emphasis_become_markdown() -> None:
    text = _markdown(
        "<h2>Head</h2><ul><li>a<ul><li>b</li></ul></li></ul><ol><li>one</li><li>two</li></ol>"
        '<blockquote><p>said</p></blockquote><p><a href="http://x.y">link</a> <b>bold</b></p>'
        '<img src="u.png" alt="pic"><table><tr><th>h</th></tr><tr><td>1</td></tr></table>'
    )
    for part in (
        *("## Head", "- a\n  * b", "1. one\n2. two", "> said", "[link](http://x.y)", "**bold**"),
        *("![pic](u.png)", "| h |\n| --- |\n| 1 |"),
    ):
        assert part in text


WORDS = st.sampled_from(["word", "a_b", "2 * 3", "1. one", "$x_1$", "a &lt; b", "&amp;", "`t`"])
INLINE = st.recursive(
    WORDS,
    lambda inner: st.builds(
        lambda tag, text: f"<{tag}>{text}</{tag.split()[0]}>",
        st.sampled_from(["em", "strong", "code", 'a href="http://x.y/z"']),
        inner,
    ),
    max_leaves=3,
)
BLOCK = st.one_of(
    st.lists(INLINE, min_size=1, max_size=4).map(lambda parts: f"<p>{' '.join(parts)}</p>"),
    WORDS.map(lambda text: f"<pre><code>{text}\n  {text}\n</code></pre>"),
    WORDS.map(lambda text: f"<p>{text}<br>{text}</p>"),
)


@given(st.lists(BLOCK, min_size=1, max_size=4).map("\n\n".join))
def test_simple_posts_are_the_same_by_the_single_pass_and_the_full_converter(html: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        single = to_markdown(html)
        patch.setattr(html_text, "_SINGLE_PASS", html_text._FULL)
        assert single == to_markdown(html)


def test_superscripts_and_subscripts_are_marked() -> None:
    assert _markdown("<p>E = mc<sup>2</sup>, H<sub>2</sub>O</p>") == "E = mc^2, H_2O"


@pytest.mark.parametrize("tag", ["div", "blockquote", "ul", "b"])
def test_pathological_nesting_loses_no_text(tag: str) -> None:
    html = f"<{tag}>" * 20_000 + "one two three four" + f"</{tag}>" * 20_000
    text, _ = to_markdown(html)
    assert "one two three four" in text


WORDS = st.lists(st.text("abcäß你é09", min_size=1, max_size=6), min_size=1, max_size=5)
TAGS = st.sampled_from(["p", "b", "em", "blockquote", "ul", "ol", "li", "pre", "code", "div", "h3"])


@given(st.lists(st.tuples(TAGS, WORDS, st.booleans()), min_size=1, max_size=12))
def test_both_converters_keep_every_word_of_broken_markup(
    parts: list[tuple[str, list[str], bool]],
) -> None:
    html = "".join(
        f"<{tag}> {' '.join(words)} " + (f"</{tag}>" if closed else "")
        for tag, words, closed in parts
    )
    words = [word for _, some, _ in parts for word in some]
    plain = to_plain_markdown(html)
    assert all(word in plain for word in words)
    text, _ = to_markdown(html)
    missing = [word for word in words if word not in text]
    assert len(missing) <= 0.1 * len(words) + 1


def test_the_plain_converter_writes_code_lists_quotes_and_links() -> None:
    text = to_plain_markdown(
        '<p>Use <code>x</code>:</p><pre class="lang-c"><code>int a;\n\nb;\n</code></pre>'
        '<blockquote><p>q</p></blockquote><ul><li>i</li></ul><a href="u">l</a>'
    )
    for part in ("Use `x`:", "```c\nint a;\n\nb;\n```", "> q", "- i", "[l](u)"):
        assert part in text
