"""Time and memory of the pair SQL on made-up answers of StackOverflow's shape, in buckets.

    .venv/bin/python benchmarks/pairing.py --millions 1 5 25

Each size runs in a process of its own, so that its peak memory is its own. Prints a table, and as
the last line one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from measure import measure, peak_rss_mb, print_ratios, print_table

from data_pipeline import sql
from data_pipeline.config import FilterConfig, PairingConfig
from data_pipeline.keyed_hash import answer_keys, mix
from data_pipeline.stages.arrange import POSTS_PER_BUCKET
from data_pipeline.stages.pair import pair_answers

MEMORY_MB = 500


def narrow_bucket(first_question: int, num_posts: int) -> tuple[pa.Table, int]:
    """Posts of about `num_posts / 3.6` questions with a long tail of answers, 2.6 on average."""
    rng = np.random.default_rng(first_question)
    num_questions = int(num_posts / 3.6)
    answers = np.minimum(
        rng.geometric(1 / 2.2, num_questions) + (rng.random(num_questions) < 0.4), 400
    )
    question = np.repeat(np.arange(num_questions), answers + 1)
    num_rows = len(question)
    is_question = np.r_[True, question[1:] != question[:-1]]
    votes = np.floor(rng.pareto(1.2, num_rows) * 1.5).astype(np.int32) - (
        rng.random(num_rows) < 0.1
    )
    post_id = first_question * 40 + np.arange(num_rows)
    order_key = mix((question + first_question).astype(np.uint64))
    accepted = np.where(is_question & (rng.random(num_rows) < 0.5), post_id + 1, 0)
    table = pa.table(
        {
            "row": np.arange(num_rows),
            "question": question,
            "key": answer_keys(order_key, post_id),
            "post_id": post_id,
            "is_question": is_question,
            "net_votes": votes.astype(np.int32),
            "accepted_answer_id": accepted,
            "author": pa.array(post_id % 1_000_003).cast(pa.string()),
            "is_closed": np.zeros(num_rows, dtype=bool),
            "is_wiki": np.zeros(num_rows, dtype=bool),
            "is_meta": np.zeros(num_rows, dtype=bool),
            "age_days": np.full(num_rows, 100.0),
        }
    )
    return table, num_questions


def run(millions: float) -> dict[str, float]:
    """Pair buckets until so many million answers are done; making them is not measured."""
    answers, pairs, cpu_s, wall_s, first = 0, 0, 0.0, 0.0, 0
    while answers < millions * 1e6:
        table, num_questions = narrow_bucket(first, POSTS_PER_BUCKET)
        first += num_questions
        answers += table.num_rows - num_questions
        found, seconds = measure(lambda: _pair(table))  # noqa: B023
        pairs += found
        cpu_s, wall_s = cpu_s + seconds.cpu_s, wall_s + seconds.wall_s
    return {
        "answers": answers,
        "pairs": pairs,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "cpu_s_per_million": cpu_s / answers * 1e6,
        "peak_rss_mb": peak_rss_mb(),
    }


def _pair(table: pa.Table) -> int:
    with sql.connect(MEMORY_MB, Path("/tmp")) as connection:
        return len(pair_answers(connection, table, FilterConfig(), PairingConfig()).chosen)


def main() -> None:
    """Run each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 5])
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(run(arguments.one)))
        return
    results: list[dict[str, float]] = []
    for millions in arguments.millions:
        command = [sys.executable, __file__, "--one", str(millions)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        results.append(json.loads(output))
    names = ("answers", "pairs", "cpu_s", "wall_s", "cpu_s_per_million", "peak_rss_mb")
    print_table(names, [[r[name] for name in names] for r in results])
    per_million = [r["cpu_s_per_million"] for r in results]
    print_ratios(
        cpu_s_per_million=max(per_million),
        largest_over_smallest_per_million=per_million[-1] / per_million[0],
        peak_rss_mb=max(r["peak_rss_mb"] for r in results),
    )


if __name__ == "__main__":
    main()
