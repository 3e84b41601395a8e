"""The whole way from XML to pairs, against the recipes of published data sets, on one core.

    .venv/bin/pip install markdownify beautifulsoup4
    .venv/bin/python benchmarks/data_build.py ../shared/data/stackexchange --megabytes 45

The recipes are written down here in a few lines each, as their authors describe them, without their
language identification and shuffles: RedPajama v1 (per-line ElementTree, BeautifulSoup text, scores
sorted), EleutherAI (iterparse, BeautifulSoup text, answers by score), lvwerra's paired set (lxml,
markdownify, every pair up to ten a question).

`--build POSTS…` measures whole builds of generated dumps (or of dumps that are there); `--stages
DUMP…` every stage of a build in one process, unpacking included. Prints tables, and as the last
line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from ingest import elementtree_rows, line_rows, lxml_rows, write_xml
from measure import measure, peak_rss_mb, print_ratios, print_table

from data_pipeline.config import DataConfig, FilterConfig, PairingConfig
from data_pipeline.pipeline import make_plan
from data_pipeline.sources.archives import ByteSource
from data_pipeline.sources.discovery import Site, find_sites
from data_pipeline.stage import Stage, missing_tasks, prepare, publish, run_and_mark
from data_pipeline.stages.arrange import Arrange
from data_pipeline.stages.ingest import Ingest
from data_pipeline.stages.pair import Pair


def soup_text(html: str) -> str:
    """BeautifulSoup's text with the lxml parser."""
    from bs4 import BeautifulSoup

    return BeautifulSoup(html, "lxml").get_text()


def redpajama(xml: Path, output: Path) -> int:
    """Question and answers as one plain text, best answer first; whole file in memory."""
    questions, answers = group_rows(line_rows(xml))
    texts: list[str] = []
    for question, row in questions.items():
        ranked = sorted(answers[question], key=lambda a: int(a["Score"]), reverse=True)
        parts = ["Q: " + soup_text(list_items(row["Body"]))]
        parts += ["A: " + soup_text(list_items(answer["Body"])) for answer in ranked]
        texts.append("\n\n".join(parts))
    pq.write_table(pa.table({"text": texts}), output, compression="zstd")
    return len(texts)


def list_items(html: str) -> str:
    """RedPajama marks list items before it drops the tags; it parses the post for that too."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(html, "lxml")
    for item in soup.find_all("li"):
        item.insert_before("*")
    return str(soup)


def eleuther(xml: Path, output: Path) -> int:
    """Questions with their answers as plain text, in the order of the file."""
    questions, answers = group_rows(dict(row) for row in elementtree_rows(xml))
    texts = [
        "Q:\n\n"
        + soup_text(row["Body"])
        + "".join("\n\nA:\n\n" + soup_text(answer["Body"]) for answer in answers[question])
        for question, row in questions.items()
        if answers[question]
    ]
    pq.write_table(pa.table({"text": texts}), output, compression="zstd")
    return len(texts)


def lvwerra(xml: Path, output: Path) -> int:
    """Markdown by markdownify, and at most ten pairs of answers a question."""
    from markdownify import markdownify

    questions, answers = group_rows(lxml_rows(xml))
    rows: list[tuple[str, str, str]] = []
    for question, row in questions.items():
        if len(answers[question]) < 2:
            continue
        prompt = markdownify(row["Body"])
        texts = [(int(a["Score"]), markdownify(a["Body"])) for a in answers[question]]
        pairs = [sorted(pair, reverse=True) for pair in combinations(texts, 2)]
        rows += [(prompt, a[1], b[1]) for a, b in pairs if a[0] != b[0]][:10]
    columns = dict(zip(("question", "j", "k"), map(list, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), output, compression="zstd")
    return len(rows)


def group_rows(
    rows: Iterator[dict[str, str]],
) -> tuple[dict[str, dict[str, str]], dict[str, list[dict[str, str]]]]:
    """Questions by id and answers by question, as all three recipes hold them."""
    questions: dict[str, dict[str, str]] = {}
    answers: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if row["PostTypeId"] == "1":
            questions[row["Id"]] = row
        elif row["PostTypeId"] == "2":
            answers[row["ParentId"]].append(row)
    return questions, answers


def worldpm(xml: Path, work: Path) -> int:
    """Our stages up to groups with pairs."""
    site = Site("a.b", ByteSource(xml))
    ingest = Ingest(work / "ingest", (site,), False)
    arrange = Arrange(work / "arrange", ingest, 0, None)
    pair = Pair(work / "pair", arrange, FilterConfig(), PairingConfig(), 2000)
    for stage in (ingest, arrange, pair):
        _run_stage(stage)
    return json.loads((pair.directory / "manifest.json").read_text())["counts"]["normalise"][
        "rows_out"
    ]


def compare_recipes(dump: Path, megabytes: int) -> dict[str, float]:
    """Every recipe on the same XML."""
    with tempfile.TemporaryDirectory() as folder:
        xml, work = Path(folder) / "Posts.xml", Path(folder)
        write_xml(dump, xml, megabytes)
        size = xml.stat().st_size / 1e6
        runs: dict[str, Callable[[], int]] = {
            "worldpm": lambda: worldpm(xml, work),
            "EleutherAI-style": lambda: eleuther(xml, work / "eleuther.parquet"),
            "RedPajama-style": lambda: redpajama(xml, work / "redpajama.parquet"),
            "lvwerra-style": lambda: lvwerra(xml, work / "lvwerra.parquet"),
        }
        seconds = {name: measure(run)[1] for name, run in runs.items()}
    print_table(
        ("recipe", "CPU s", "wall s", "MB/s"),
        [(name, m.cpu_s, m.wall_s, size / m.cpu_s) for name, m in seconds.items()],
    )
    ours = seconds.pop("worldpm").cpu_s
    return {f"faster_than_{name}": m.cpu_s / ours for name, m in seconds.items()}


def by_stage(dump: Path) -> dict[str, float]:
    """CPU seconds of every stage of a build by one core, programs that unpack included."""
    gb = _xml_gb(dump)
    with tempfile.TemporaryDirectory() as folder:
        paths = {"source": {"path": dump}, "output_dir": folder, "executor": {"workers": 1}}
        config = DataConfig.model_validate(paths)
        seconds = {
            stage.name: measure(partial(_run_stage, stage))[1].cpu_s
            for stage in make_plan(config, find_sites(config.source.path)).stages
        }
        shards = json.loads((Path(folder) / "shards" / "manifest.json").read_text())
    tokens = sum(split["num_tokens"] for split in shards["counts"]["splits"].values())
    seconds["all but the tokenizer"] = sum(seconds.values()) - seconds["tokenizer"]
    print(f"{dump}: {gb:.3f} GB of XML, {tokens:,} tokens\n")
    rows = [(name, cpu_s, cpu_s / gb) for name, cpu_s in seconds.items()]
    print_table(("stage", "CPU s", "CPU s a GB of XML"), rows)
    return {"cpu_s_per_gb_without_tokenizer": rows[-1][-1]}


def _run_stage(stage: Stage) -> None:
    prepare(stage)
    for task in missing_tasks(stage):
        run_and_mark(stage, task)
    publish(stage)


def whole_builds(dumps: list[str]) -> dict[str, float]:
    """`worldpm data build` of dumps that are there, or generated with so many posts."""
    rows: list[tuple[object, ...]] = []
    per_gb = 0.0
    for dump in dumps:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(dump)
            if dump.isdigit():
                path = Path(folder) / "dump"
                _worldpm("generate.yaml", f"output_dir={path}", f"num_posts={dump}")
            out = Path(folder) / "out"
            build = (f"source.path={path}", f"output_dir={out}")
            _, seconds = measure(lambda: _worldpm("base.yaml", *build))  # noqa: B023
            counts = json.loads((out / "manifest.json").read_text())["counts"]
            disk_gb = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e9
            xml_gb = _xml_gb(path)
        per_gb = seconds.cpu_s / xml_gb
        times = (seconds.wall_s, seconds.cpu_s, per_gb, peak_rss_mb(), disk_gb)
        rows.append((f"{counts['ingest']['rows_in']:,}", xml_gb, *times))
    head = ("posts", "XML GB", "wall s", "CPU s", "CPU s a GB", "peak RSS MB", "disk GB")
    print_table(head, rows)
    return {"cpu_s_per_gb_of_xml": per_gb, "peak_rss_mb": peak_rss_mb()}


def _worldpm(config: str, *overrides: str) -> None:
    verb = "build" if config == "base.yaml" else "generate"
    path = Path(__file__).parents[1] / "configs" / "data" / config
    code = "from worldpm.cli.main import main; main()"
    command = [sys.executable, "-c", code, "data", verb, str(path), *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _xml_gb(dump: Path) -> float:
    import py7zr

    total = 0
    for path in dump.glob("*.7z"):
        with py7zr.SevenZipFile(path) as archive:
            total += sum(e.uncompressed for e in archive.list() if e.filename == "Posts.xml")
    return total / 1e9


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dump", type=Path, nargs="?")
    parser.add_argument("--megabytes", type=int, default=45)
    parser.add_argument("--stages", type=Path, nargs="+", help="dumps to build stage by stage")
    parser.add_argument("--build", nargs="+", help="numbers of posts to generate, or dumps")
    arguments = parser.parse_args()
    ratios: dict[str, float] = {}
    if arguments.dump is not None:
        ratios |= compare_recipes(arguments.dump, arguments.megabytes)
    for dump in arguments.stages or ():
        ratios |= by_stage(dump)
    if arguments.build:
        ratios |= whole_builds(arguments.build)
    print_ratios(**ratios)


if __name__ == "__main__":
    main()
