"""Speed of reading a dump: XML to Parquet against other parsers, and straight out of an archive.

    .venv/bin/python benchmarks/ingest.py ../shared/data/stackexchange --megabytes 120

DUMP is a folder of site archives; their Posts.xml are joined and repeated to the size asked for.
Every parser fills the same columns, casts them and writes Parquet (zstd). Prints tables, and as the
last line one JSON object with the ratios. CPU seconds include child processes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import py7zr
import pyarrow as pa
import pyarrow.parquet as pq
from lxml import etree
from measure import Measured, best_of, measure, peak_rss_mb, print_ratios, print_table

from data_pipeline.sources.archives import ByteSource
from data_pipeline.sources.discovery import Site, find_sites
from data_pipeline.sources.posts import POSTS_SCHEMA, split_tags
from data_pipeline.stages.ingest import ingest_site

COLUMNS = ("Id", "PostTypeId", "ParentId", "AcceptedAnswerId", "Score", "OwnerUserId")
TEXTS = ("CreationDate", "Title", "Tags", "Body", "ClosedDate", "CommunityOwnedDate")
TEXTS += ("ContentLicense", "OwnerDisplayName", "DeletionDate")
COMPARED = ["post_id", "accepted_answer_id", "created", "net_votes", "title", "tags", "body"]
BATCH = 20_000
WALL_REPEATS = 7


def write_xml(dump: Path, path: Path, megabytes: int) -> None:
    """Join the rows of every site, again and again, into one file of the publisher's form."""
    with path.open("wb") as file:
        file.write(b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n')
        while file.tell() < megabytes * 1_000_000:
            for site in find_sites(dump):
                data = b"".join(site.posts.chunks())
                start, end = data.find(b"<row"), data.rfind(b"/>") + 2
                file.write(b"  " + data[start:end] + b"\r\n")
        file.write(b"</posts>")


def elementtree_rows(path: Path) -> Iterator[dict[str, str]]:
    """xml.etree's iterparse, the standard library's way for large files."""
    for _, element in ElementTree.iterparse(path):
        if element.tag == "row":
            yield element.attrib
        element.clear()


def lxml_rows(path: Path) -> Iterator[dict[str, str]]:
    """lxml's iterparse."""
    for _, element in etree.iterparse(str(path), tag="row", huge_tree=True):
        yield dict(element.attrib)
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]


def line_rows(path: Path) -> Iterator[dict[str, str]]:
    """ElementTree on every line, as the RedPajama recipe does."""
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.lstrip().startswith("<row"):
                yield ElementTree.fromstring(line).attrib


def write_rows(rows: Iterator[dict[str, str]], output: Path) -> None:
    """Cast the same columns and write them."""
    with pq.ParquetWriter(output, _schema(), compression="zstd") as writer:
        batch: list[dict[str, str]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == BATCH:
                writer.write_table(_table(batch))
                batch = []
        writer.write_table(_table(batch))


def _schema() -> pa.Schema:
    fields = [(name, pa.int64()) for name in COLUMNS]
    kinds: dict[str, pa.DataType] = {"CreationDate": pa.timestamp("ms")}
    kinds["Tags"] = pa.list_(pa.string())
    return pa.schema(fields + [(name, kinds.get(name, pa.string())) for name in TEXTS])


def _table(rows: list[dict[str, str]]) -> pa.Table:
    columns: list[Any] = []
    for name in COLUMNS:
        texts = pa.array([row.get(name) or None for row in rows], pa.string())
        columns.append(texts.cast(pa.int64()))
    for name in TEXTS:
        values: list[Any] = [row.get(name) for row in rows]
        if name == "Tags":
            columns.append(pa.array([split_tags(v) for v in values], pa.list_(pa.string())))
            continue
        texts = pa.array(values, pa.string())
        columns.append(texts.cast(pa.timestamp("ms")) if name == "CreationDate" else texts)
    return pa.table(columns, schema=_schema())


def read_ours(folder: Path) -> pa.Table:
    """What the ingest stage wrote."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(tables).select(COMPARED)


def read_theirs(path: Path) -> pa.Table:
    """Questions and answers of another parser's file under our names."""
    table = pq.read_table(path)
    keep = [
        t in (1, 2) and bool(b)
        for t, b in zip(table["PostTypeId"].to_pylist(), table["Body"].to_pylist(), strict=True)
    ]
    names = ["Id", "AcceptedAnswerId", "CreationDate", "Score", "Title", "Tags", "Body"]
    table = table.filter(pa.array(keep)).select(names).rename_columns(COMPARED)
    return table.cast(pa.schema([POSTS_SCHEMA.field(name) for name in COMPARED]))


def compare_parsers(xml: Path, work: Path) -> dict[str, float | bool]:
    """Every parser on the same file."""
    megabytes = xml.stat().st_size / 1e6
    ours_dir = work / "ours"
    ours_dir.mkdir()
    site = Site("a.b", ByteSource(xml))
    runs: dict[str, Callable[[], object]] = {
        "worldpm": lambda: ingest_site(site, ours_dir, strict=False),
        "lxml iterparse": lambda: write_rows(lxml_rows(xml), work / "lxml.parquet"),
        "xml.etree iterparse": lambda: write_rows(elementtree_rows(xml), work / "etree.parquet"),
        "xml.etree a line": lambda: write_rows(line_rows(xml), work / "line.parquet"),
    }
    seconds = {name: best_of(2, run)[1] for name, run in runs.items()}
    print_table(
        ("XML to Parquet", "CPU s", "wall s", "MB/s of one core"),
        [(name, m.cpu_s, m.wall_s, megabytes / m.cpu_s) for name, m in seconds.items()],
    )
    identical = read_ours(ours_dir).equals(read_theirs(work / "lxml.parquet"))
    cpu = {name: m.cpu_s for name, m in seconds.items()}
    return {
        "xml_mb_per_cpu_s": megabytes / cpu["worldpm"],
        "faster_than_etree_iterparse": cpu["xml.etree iterparse"] / cpu["worldpm"],
        "faster_than_etree_per_line": cpu["xml.etree a line"] / cpu["worldpm"],
        "faster_than_lxml_iterparse": cpu["lxml iterparse"] / cpu["worldpm"],
        "table_identical_to_lxml": identical,
    }


def from_archives(xml: Path, work: Path, program: str | None) -> dict[str, float]:
    """Ingest straight out of an archive against decompressing it alone."""
    ratios: dict[str, float] = {}
    rows: list[tuple[Any, ...]] = []
    for name, method in (("BZip2", py7zr.FILTER_BZIP2), ("LZMA2", py7zr.FILTER_LZMA2)):
        archive = work / f"{name}.7z"
        filters: list[dict[str, int]] = [{"id": method}]
        if name == "LZMA2":
            filters[0]["preset"] = 3
        with py7zr.SevenZipFile(archive, "w", filters=filters) as file:
            file.write(xml, "Posts.xml")
        out = work / name
        out.mkdir()
        site = Site("a.b", ByteSource(archive, "Posts.xml"))
        ours = _fastest(lambda: ingest_site(site, out, strict=False))  # noqa: B023
        alone = _fastest(lambda: _decompress(archive, program))  # noqa: B023
        ratios[f"{name}_wall_over_decompression"] = ours.wall_s / alone.wall_s
        rows.append((name, ours.wall_s, ours.cpu_s, alone.wall_s, ours.wall_s / alone.wall_s))
    tool = Path(program).name + " x -so > /dev/null" if program else "py7zr, bytes thrown away"
    print_table(("archive", "ingest wall s", "CPU s", f"{tool}, wall s", "ratio"), rows)
    return ratios


def _fastest(work: Callable[[], object]) -> Measured:
    """The least wall time of several runs: here two processes share the cores."""
    return min((measure(work)[1] for _ in range(WALL_REPEATS)), key=lambda run: run.wall_s)


def _decompress(archive: Path, program: str | None) -> None:
    if program is not None:
        with Path("/dev/null").open("wb") as null:
            subprocess.run(
                [program, "x", "-so", str(archive)], stdout=null, stderr=null, check=True
            )
        return
    for _ in ByteSource(archive, "Posts.xml").chunks():
        pass


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dump", type=Path)
    parser.add_argument("--megabytes", type=int, default=120)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_xml(arguments.dump, work / "Posts.xml", arguments.megabytes)
        ratios = compare_parsers(work / "Posts.xml", work)
        program = shutil.which("7zz") or shutil.which("7z")
        archives = from_archives(work / "Posts.xml", work, program)
    print_ratios(**ratios, **archives, peak_rss_mb=peak_rss_mb())


if __name__ == "__main__":
    main()
