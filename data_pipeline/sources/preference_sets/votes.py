"""Voted answers from elsewhere: SHP's pairs of Reddit comments, and Quora-style questions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from data_pipeline.sources.preference_sets.records import (
    AnswerPairing,
    Dropped,
    make_group,
    pair_up,
)
from data_pipeline.sources.preference_sets.rows import Row, read_rows
from worldpm.schema import Group, Message, Pair


def read_shp(path: Path, min_score_ratio: float) -> Iterator[Group | Dropped]:
    """One group a post of stanfordnlp/SHP: rows in a row with one `post_id`, a pair each.

    `labels` is 1 where comment A is preferred. Pairs whose scores stand in a smaller ratio than
    `min_score_ratio` are left out, as SHP's authors advise.

    Raises:
        InputError: a row lacks a field.
    """
    posts = groupby(read_rows(path), key=lambda row: row.text("post_id"))
    for number, (_, rows) in enumerate(posts):
        yield _shp_group(f"shp/{number}", list(rows), min_score_ratio)


def _shp_group(group_id: str, rows: list[Row], min_score_ratio: float) -> Group | Dropped:
    places: dict[str, int] = {}
    texts: list[str] = []
    pairs: list[Pair] = []
    for row in rows:
        if row.number("score_ratio") < min_score_ratio:
            continue
        indices: list[int] = []
        for letter in "AB":
            place = places.setdefault(row.text(f"c_root_id_{letter}"), len(texts))
            if place == len(texts):
                texts.append(row.text(f"human_ref_{letter}"))
            indices.append(place)
        if row.number("labels") == 0:
            indices.reverse()
        margin = abs(row.number("score_A") - row.number("score_B"))
        pairs.append(Pair(indices[0], indices[1], max(1, round(margin))))
    if not pairs:
        return Dropped("score_ratio_too_small", rows[0].where)
    prompt = [Message("user", rows[0].text("history"))]
    return make_group(group_id, prompt, texts, pairs, rows[0].where)


def read_quora(path: Path, pairing: AnswerPairing, seed: int) -> Iterator[Group | Dropped]:
    """One group a question: `{"question", "details"?, "answers": [{"text", "upvotes"}]}`.

    Raises:
        InputError: a row lacks a field.
    """
    for number, row in enumerate(read_rows(path)):
        answers = row.parts("answers")
        if len(answers) < 2:
            yield Dropped("single_answer" if answers else "no_answer", row.where)
            continue
        group_id = f"quora/{number}"
        votes = [answer.number("upvotes") for answer in answers]
        pairs = pair_up(votes, group_id, seed, pairing)
        details = row.value.get("details")
        question = row.text("question") + (f"\n\n{details}" if details else "")
        texts = [answer.text("text") for answer in answers]
        yield make_group(group_id, [Message("user", question)], texts, pairs, row.where)
