"""Of similar answers to one cluster of questions one stays: the best that is still there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipeline import sql
from data_pipeline.documents import DOCUMENTS_SCHEMA
from data_pipeline.removals import REMOVALS_SCHEMA

NUM_QUESTIONS = 4
TABLE = DOCUMENTS_SCHEMA.append(pa.field("number", pa.int64())).append(
    pa.field("cluster", pa.int64())
)
# Question q has number 10 q, its answer a the number 10 q + a.
ANSWERS = [(q, a) for q in range(NUM_QUESTIONS) for a in range(1, 4)]


def document(question: int, answer: int, score: int | None, cluster: int) -> dict[str, object]:
    return {
        "site": "s",
        "question_id": question,
        "response_id": 10 * question + answer if answer else None,
        "score": score,
        "question_document": 10 * question,
        "number": 10 * question + answer,
        "cluster": cluster,
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    question_clusters=st.lists(st.integers(0, 1), min_size=NUM_QUESTIONS, max_size=NUM_QUESTIONS),
    answers=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()),
        min_size=len(ANSWERS),
        max_size=len(ANSWERS),
    ),
)
def test_exactly_the_best_answer_stays(
    tmp_path: Path, question_clusters: list[int], answers: list[tuple[int, int, bool]]
) -> None:
    # Questions in cluster 0 are similar to each other; those with 1 are alone and not in the table.
    similar = [q for q, cluster in enumerate(question_clusters) if cluster == 0]
    rows = [document(q, 0, None, 10 * similar[0]) for q in similar]
    rows += [
        document(q, a, score, 1000 + cluster)
        for (q, a), (cluster, score, _) in zip(ANSWERS, answers, strict=True)
    ]
    removed = [
        {"site": "s", "question_id": q, "response_id": 10 * q + a, "reason": "x"}
        for (q, a), (_, _, is_removed) in zip(ANSWERS, answers, strict=True)
        if is_removed
    ]
    with sql.connect(200, tmp_path) as connection:
        connection.register("documents", pa.Table.from_pylist(rows, TABLE))
        connection.register("removed", pa.Table.from_pylist(removed, REMOVALS_SCHEMA))
        found = sql.query_file(connection, "near_duplicate_answers")["response_id"].to_pylist()

    alike: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (q, a), (cluster, score, is_removed) in zip(ANSWERS, answers, strict=True):
        if not is_removed:
            question_cluster = -1 if q in similar else q
            alike.setdefault((cluster, question_cluster), []).append((-score, 10 * q + a))
    assert found == sorted(number for same in alike.values() for _, number in sorted(same)[1:])


def test_a_question_that_was_removed_takes_its_answers_out_of_the_choice(tmp_path: Path) -> None:
    rows = [document(0, 1, 9, 1000), document(1, 1, 5, 1000), document(1, 2, 3, 1000)]
    rows += [document(q, 0, None, 0) for q in (0, 1)]
    removed = [{"site": "s", "question_id": 0, "response_id": None, "reason": "x"}]
    with sql.connect(200, tmp_path) as connection:
        connection.register("documents", pa.Table.from_pylist(rows, TABLE))
        connection.register("removed", pa.Table.from_pylist(removed, REMOVALS_SCHEMA))
        found = sql.query_file(connection, "near_duplicate_answers")["response_id"].to_pylist()
        clusters = sql.query_file(connection, "question_clusters").to_pylist()
    assert found == [12]
    assert [row["cluster"] for row in clusters] == ["s/0", "s/0"]


@pytest.mark.parametrize("name", ["near_duplicate_answers", "question_clusters"])
def test_no_similar_documents_give_no_rows(tmp_path: Path, name: str) -> None:
    with sql.connect(200, tmp_path) as connection:
        connection.register("documents", TABLE.empty_table())
        connection.register("removed", REMOVALS_SCHEMA.empty_table())
        assert sql.query_file(connection, name).num_rows == 0
