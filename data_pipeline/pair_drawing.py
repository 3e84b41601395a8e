"""Draw the pairs of each question among its answers, as the pairing policy says."""

from __future__ import annotations

import duckdb
import numpy as np

from data_pipeline import sql
from data_pipeline.config import PairingConfig

_PAIRS = "SELECT question, chosen, rejected, margin FROM pairs ORDER BY question, draw"
RANKING_POLICIES = ("adjacent", "top_vs_rest")


def draw_pairs(
    connection: duckdb.DuckDBPyConnection, pairing: PairingConfig
) -> dict[str, np.ndarray]:
    """Make the table `pairs` from the relation `answers`, and return it by question.

    `answers` has the columns question, position, post_id, key (`keyed_hash.answer_keys`) and score;
    `pairs` has question, chosen and rejected (positions), and margin. What is drawn for a question
    depends on nothing but its own answers.
    """
    one_pair = pairing.policy == "one_random_pair"
    variables = {
        "min_margin": pairing.min_margin,
        "max_pairs": 1 if one_pair else pairing.max_pairs_per_question,
    }
    if pairing.policy in RANKING_POLICIES:
        sql.run_file(connection, "ranked_answers")
    sql.run_file(connection, f"candidates_{'all' if one_pair else pairing.policy}", variables)
    sql.run_file(connection, "draw_pairs")
    return sql.fetch(connection, _PAIRS)


def sql_names() -> list[str]:
    """The SQL files whose text decides the draw."""
    policies = ("all", *RANKING_POLICIES)
    return ["ranked_answers", "draw_pairs", *(f"candidates_{policy}" for policy in policies)]
