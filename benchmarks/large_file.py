"""Ingest one large site with one and with several parsers: the same bytes, and what it costs.

    .venv/bin/python benchmarks/large_file.py ../shared/data/stackexchange --megabytes 1100

DUMP is a folder of site archives; their Posts.xml are joined and repeated to the size asked for.
Each run is a process of its own, so that its peak memory is its own. Prints a table, and as the
last line one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ingest import write_xml
from measure import measure, peak_rss_mb, print_ratios, print_table

from data_pipeline.sources.archives import ByteSource
from data_pipeline.sources.discovery import Site
from data_pipeline.stages import ingest


def run(xml: Path, workers: int) -> dict[str, object]:
    """Ingest the file in this process and its children."""
    ingest.LARGE_BYTES = 0
    with tempfile.TemporaryDirectory(dir=xml.parent) as folder:
        sites = (Site("large.example", ByteSource(xml)),)
        stage = ingest.Ingest(Path(folder), sites, False, workers)
        result, seconds = measure(lambda: stage.run_task("large.example", Path(folder)))
        parts = sorted(Path(folder).glob("*.parquet"))
        digests = [hashlib.sha256(part.read_bytes()).hexdigest() for part in parts]
    return {
        "workers": workers,
        "rows": result.counts["ingest"].rows_in,
        "wall_s": seconds.wall_s,
        "cpu_s": seconds.cpu_s,
        "peak_rss_mb": peak_rss_mb(),
        "parts": digests,
    }


def main() -> None:
    """Run each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dump", type=Path, help="a folder of sites, or a Posts.xml to use as it is")
    parser.add_argument("--megabytes", type=int, default=1100)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(run(arguments.dump, arguments.one)))
        return
    with tempfile.TemporaryDirectory() as folder:
        xml: Path = arguments.dump
        if xml.is_dir():
            xml = Path(folder) / "large.example.xml"
            write_xml(arguments.dump, xml, arguments.megabytes)
        megabytes = xml.stat().st_size / 1e6
        results: list[dict[str, object]] = []
        for workers in arguments.workers:
            command = [sys.executable, __file__, str(xml), "--one", str(workers)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            results.append(json.loads(output))
    names = ("workers", "rows", "wall_s", "cpu_s", "peak_rss_mb")
    print(f"{megabytes:,.0f} MB of XML; load {os.getloadavg()[0]:.1f}")
    print_table(names, [[r[name] for name in names] for r in results])
    print_ratios(
        same_bytes=all(r["parts"] == results[0]["parts"] for r in results),
        mb_per_cpu_s_alone=megabytes / float(str(results[0]["cpu_s"])),
        most_mb_per_wall_s=max(megabytes / float(str(r["wall_s"])) for r in results),
    )


if __name__ == "__main__":
    main()
