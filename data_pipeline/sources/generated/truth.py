"""The planted truth beside the dump: one row an answer, and one row a near-copied question."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.sources.generated.posts import Post

TRUTH_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("question_id", pa.int64()),
        ("answer_id", pa.int64()),
        ("quality", pa.float32()),
        ("is_correct", pa.bool_()),
        ("is_on_topic", pa.bool_()),
        ("num_steps", pa.int8()),
        ("tone", pa.string()),
        ("num_fillers", pa.int8()),
        ("is_confident", pa.bool_()),
        ("has_markdown", pa.bool_()),
        ("up_votes", pa.int32()),
        ("down_votes", pa.int32()),
        ("is_accepted", pa.bool_()),
    ]
)
NEAR_COPIES_SCHEMA = pa.schema(
    [
        ("site", pa.string()),
        ("question_id", pa.int64()),
        ("original", pa.int64()),  # copies of one number are near-duplicates of each other
        ("replaced_words", pa.int32()),
    ]
)


ROWS_PER_ROW_GROUP = 50_000


class TruthWriter:
    """Appends the truth of a block of posts; memory does not grow with the dump."""

    def __init__(self, answers: pq.ParquetWriter, copies: pq.ParquetWriter) -> None:
        self._answers = answers
        self._copies = copies
        self._answer_rows: list[dict[str, object]] = []
        self._copy_rows: list[dict[str, object]] = []

    def add(self, site: str, posts: list[Post]) -> None:
        """Take the truth of posts that have their Ids."""
        self._answer_rows += [_answer_truth(site, post) for post in posts if post.latent]
        self._copy_rows += [
            _copy_truth(site, post)
            for post in posts
            if post.parent is None and post.question.copy_of is not None
        ]
        if len(self._answer_rows) >= ROWS_PER_ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        self._answers.write_table(pa.Table.from_pylist(self._answer_rows, TRUTH_SCHEMA))
        self._copies.write_table(pa.Table.from_pylist(self._copy_rows, NEAR_COPIES_SCHEMA))
        self._answer_rows, self._copy_rows = [], []


@contextmanager
def truth_writer(directory: Path) -> Generator[TruthWriter]:
    """Open `truth.parquet` and `near_copies.parquet` in `directory`."""
    with (
        pq.ParquetWriter(directory / "truth.parquet", TRUTH_SCHEMA) as answers,
        pq.ParquetWriter(directory / "near_copies.parquet", NEAR_COPIES_SCHEMA) as copies,
    ):
        writer = TruthWriter(answers, copies)
        yield writer
        writer.flush()


def _copy_truth(site: str, post: Post) -> dict[str, object]:
    return {
        "site": site,
        "question_id": post.post_id,
        "original": post.question.copy_of,
        "replaced_words": post.question.replaced_words,
    }


def _answer_truth(site: str, post: Post) -> dict[str, object]:
    latent, parent = post.latent, post.parent
    assert latent is not None
    assert parent is not None
    return {
        "site": site,
        "question_id": parent.post_id,
        "answer_id": post.post_id,
        "quality": latent.quality,
        "is_correct": latent.is_correct,
        "is_on_topic": latent.is_on_topic,
        "num_steps": latent.num_steps,
        "tone": latent.tone,
        "num_fillers": latent.num_fillers,
        "is_confident": latent.is_confident,
        "has_markdown": latent.has_markdown,
        "up_votes": post.up_votes,
        "down_votes": post.down_votes,
        "is_accepted": post.is_accepted,
    }
