"""Rows of a dump: the fast reader agrees with lxml on whatever is XML, and survives what is not."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from data_pipeline.sources.posts import read_posts, split_all_tags, split_tags
from data_pipeline.sources.rows import MAX_ROW_BYTES, Damage, parse_rows, unescape, whole_rows
from worldpm.artifacts import StageCounts
from worldpm.errors import InputError

XML_TEXT = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")),
        st.sampled_from("\t\n\r<>&\"'\\ "),
    )
)
HEADER = '\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n'


def _read(data: bytes, size: int = 1 << 20) -> tuple[list[dict[str, str]], Damage]:
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    damage = Damage()
    rows: list[dict[str, str]] = []
    for piece in whole_rows(chunks, "Posts.xml"):
        parsed = parse_rows(piece, ("Id", "Body"))
        damage.add(parsed.damage, num_rows_before=len(rows) + damage.num_rows_lost)
        columns = {name: parsed.column(name).to_pylist() for name in ("Id", "Body")}
        for values in zip(*columns.values(), strict=True):
            row = dict(zip(columns, values, strict=True))
            rows.append({name: value for name, value in row.items() if value is not None})
    return rows, damage


def _rows_of_lxml(data: bytes) -> list[dict[str, str]]:
    rows = etree.fromstring(data).iter("row")
    # An attribute without a value counts as missing: old dumps write it, newer ones do not.
    return [{name: text for name, text in row.attrib.items() if text} for row in rows]


def _attribute(text: str) -> str:
    # The publisher's writer: line breaks as references, quotes always escaped.
    escaped = quoteattr(text, {"\n": "&#xA;", "\r": "&#xD;", "\t": "&#x9;"})
    return escaped if escaped[0] == '"' else '"' + escaped[1:-1].replace('"', "&quot;") + '"'


@given(
    st.lists(st.fixed_dictionaries({"Id": st.integers(1).map(str), "Body": XML_TEXT}), min_size=1),
    st.integers(1, 200),
    st.sampled_from([" />\r\n", "/>\n", "></row>\n", "/>"]),
)
def test_the_fast_reader_agrees_with_lxml_wherever_chunks_end(
    posts: list[dict[str, str]], size: int, end: str
) -> None:
    lines = [f'  <row Id="{post["Id"]}" Body={_attribute(post["Body"])}{end}' for post in posts]
    data = (HEADER + "".join(lines) + "</posts>").encode()
    rows, damage = _read(data, size)
    assert rows == _rows_of_lxml(data)
    assert rows == [{name: text for name, text in post.items() if text} for post in posts]
    assert not damage.notes


@given(XML_TEXT)
def test_raw_white_space_and_single_quotes_are_read_as_lxml_reads_them(text: str) -> None:
    body = text.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&#39;")
    data = f"<posts>\n<row\n  Id='1'\n  Body='{body}'/>\n</posts>".encode()
    rows, _ = _read(data)
    assert rows == _rows_of_lxml(data)


def test_entities_are_resolved_once() -> None:
    assert unescape("&amp;lt;p&amp;gt; &#38;lt; &amp;#xA; &lt;") == "&lt;p&gt; &lt; &#xA; <"


@pytest.mark.parametrize("reference", ["&#x0;", "&#0;", "&#xD83D;", "&#x1F;", "&#x110000;"])
def test_a_reference_to_no_character_becomes_the_replacement_character(reference: str) -> None:
    assert unescape(f"a{reference}b") == "a\ufffdb"


def test_forbidden_bytes_do_not_cost_the_row() -> None:
    rows, damage = _read(b'<posts><row Id="1" Body="a\x00\x1fb\xff" /></posts>')
    assert rows == [{"Id": "1", "Body": "a\ufffd\ufffdb\ufffd"}]
    assert damage.num_rows_lost == 0


def test_a_broken_row_is_counted_with_its_place_and_its_neighbours_are_kept() -> None:
    data = b'<posts>\n<row Id="1" />\n<row Id="2" Body="cut \n<row Id="3" />\n</posts>'
    rows, damage = _read(data)
    assert [row["Id"] for row in rows] == ["1", "3"]
    assert damage.num_rows_lost == 1
    assert str(damage.notes[0]).startswith("row 2 ")


@pytest.mark.parametrize("size", [20, 64, 1000])
def test_places_count_from_the_start_of_the_file_wherever_chunks_end(size: int) -> None:
    lines = [f'<row Id="{number}" Body="b" />\n' for number in range(1, 30)]
    lines[16] = '<row Id="17" Body="cut \n'
    _, damage = _read(f"<posts>\n{''.join(lines)}</posts>".encode(), size)
    assert [note.rows for note in damage.notes] == [(17, 17)]
    assert str(damage.notes[0]).startswith("row 17 ")


def test_a_file_cut_in_a_row_keeps_what_is_whole() -> None:
    rows, damage = _read(b'<posts>\n<row Id="1" />\n<row Id="2" Bo')
    assert [row["Id"] for row in rows] == ["1"]
    assert damage.num_rows_lost == 1


def test_a_missing_closing_tag_and_rows_behind_it_are_noted() -> None:
    row = b'<row Id="1" PostTypeId="1" Score="1" Body="q" />'
    for text, note in (
        (b"<posts>" + row, "closing tag is missing after row 1"),
        (b"<posts>" + row + b"</posts>" + row * 2, "rows 2 to 3 stand after the closing tag"),
        (b"<posts>" + row + b"</posts>", None),
    ):
        damage = Damage()
        tables = [table for table, _ in read_posts([text], "a.b", "Posts.xml", damage)]
        assert sum(table.num_rows for table in tables) == text.count(b"<row")
        assert [note is not None and note in str(found) for found in damage.notes] == [True] * bool(
            note
        )


def test_a_repeated_attribute_makes_a_row_broken() -> None:
    rows, damage = _read(b'<posts><row Id="1" Id="2" /></posts>')
    assert (rows, damage.num_rows_lost) == ([], 1)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    '<posts><row Id="1" Body="&b;" /></posts>'
)
XXE = '<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/hostname">]><posts><row Body="&x;" /></posts>'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOMB.encode(), "declares entities"),
        (XXE.encode(), "declares entities"),
        ("<posts/>".encode("utf-16"), "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"Id,Body\n1,a\n", "no XML"),
        (b"", "no XML"),
    ],
)
def test_what_is_no_dump_is_refused_with_its_reason(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _read(data)


def test_an_external_document_type_is_named_by_some_copies_and_never_loaded() -> None:
    rows, _ = _read(b"<!DOCTYPE posts SYSTEM 'posts.dtd'><posts><row Id=\"1\" /></posts>")
    assert rows == [{"Id": "1"}]


def test_a_row_without_end_is_refused_before_it_fills_the_memory() -> None:
    def endless() -> Iterator[bytes]:
        yield b'<posts><row Body="'
        while True:
            yield b"a" * (MAX_ROW_BYTES // 4)

    with pytest.raises(InputError, match="longer than"):
        list(whole_rows(endless(), "Posts.xml"))


@pytest.mark.parametrize(
    ("text", "tags"),
    [("<c#><.net>", ["c#", ".net"]), ("|c#|.net|", ["c#", ".net"]), ("", None), (None, None)],
)
def test_both_spellings_of_tags_are_read(text: str | None, tags: list[str] | None) -> None:
    assert split_tags(text) == tags


TAGS = st.text(st.sampled_from("<>|aä"), min_size=1)


@given(
    st.one_of(
        st.lists(st.one_of(st.none(), TAGS)),
        st.lists(st.one_of(st.none(), TAGS.map("<{}".format))),
        st.lists(st.one_of(st.none(), st.lists(st.just("c#"), min_size=1).map("|".join))),
    )
)
def test_tags_of_many_posts_are_split_as_those_of_each(texts: list[str | None]) -> None:
    split = split_all_tags(pa.array(texts, pa.string()))
    assert split.to_pylist() == [split_tags(text) for text in texts]


ROWS = """<posts>
<row Id="1" PostTypeId="1" Score="3" CreationDate="2010-01-01T00:00:00.000" Body="q"
  AcceptedAnswerId="2" OwnerUserId="7" Title="T" Tags="&lt;a&gt;" ViewCount="" ClosedDate="x" />
<row Id="2" PostTypeId="2" ParentId="1" Score="-2" CreationDate="2012-01-01T00:00:00.000" Body="a"
  OwnerDisplayName="Ada &amp; co" CommunityOwnedDate="x" />
<row Id="3" PostTypeId="2" ParentId="1" Score="0" CreationDate="2019-01-01T00:00:00.000" Body="a" />
<row Id="4" PostTypeId="2" ParentId="1" Score="0" CreationDate="2009-13-01T00:00:00" Body="a" />
<row Id="5" PostTypeId="5" Score="0" Body="wiki" />
<row Id="6" PostTypeId="2" Score="0" Body="a" />
<row Id="7" PostTypeId="2" ParentId="1" Score="1.5" Body="a" />
<row Id="8" PostTypeId="2" ParentId="1" Score="0" Body="" />
<row Id="9" PostTypeId="2" ParentId="1" Score="0" Body="a" DeletionDate="x" />
<row Id="10" PostTypeId="2" ParentId="1" Score="0" Body="a" ContentLicense="CC BY-SA 9.9" />
</posts>"""


def test_posts_are_typed_and_every_row_is_accounted_for() -> None:
    counts, damage, tables = StageCounts(), Damage(), []
    for part, part_counts in read_posts([ROWS.encode()], "a.b", "Posts.xml", damage):
        tables.append(part)
        counts.add(part_counts)
    table = pa.concat_tables(tables)
    counts.check("ingest")
    assert counts.rows_in == 10
    assert counts.dropped == {
        "post_type_5": 1,
        "answer_without_question_id": 1,
        "unreadable_fields": 1,
        "empty_body": 1,
        "deleted_post": 1,
    }
    rows = {row["post_id"]: row for row in table.to_pylist()}
    assert rows[1]["question_id"] == 1
    assert rows[2]["question_id"] == 1
    assert (rows[1]["accepted_answer_id"], rows[1]["tags"]) == (2, ["a"])
    assert (rows[1]["is_closed"], rows[2]["is_community_wiki"]) == (True, True)
    assert [rows[i]["author"] for i in (1, 2, 3)] == ["7", "Ada & co", None]
    assert [rows[i]["net_votes"] for i in (1, 2, 3)] == [3, -2, 0]
    assert {i: row["licence"] for i, row in rows.items()} == {
        1: "CC BY-SA 2.5",
        2: "CC BY-SA 3.0",
        3: "CC BY-SA 4.0",
        4: "CC BY-SA",  # no date, so no version
        10: "CC BY-SA 9.9",
    }
    assert rows[4]["created"] is None
    assert any("2009-13-01" in str(note) for note in damage.notes)


@pytest.mark.parametrize(
    ("score", "net_votes", "num_notes"),
    [("-2147483648", -(2**31), 0), (" 7 ", 7, 0), ("2147483648", None, 1), ("9" * 30, None, 1)],
)
def test_a_score_beyond_what_a_column_holds_is_unreadable_and_noted(
    score: str, net_votes: int | None, num_notes: int
) -> None:
    damage = Damage()
    data = f'<posts><row Id="1" PostTypeId="1" Score="{score}" Body="q" /></posts>'.encode()
    parts = list(read_posts([data], "a.b", "Posts.xml", damage))
    votes = [number for table, _ in parts for number in table["net_votes"].to_pylist()]
    assert votes == ([] if net_votes is None else [net_votes])
    dropped = sum(counts.dropped.get("unreadable_fields", 0) for _, counts in parts)
    assert dropped == (net_votes is None)
    assert len(damage.notes) == num_notes
