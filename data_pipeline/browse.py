"""Look at groups: find some by site, tag, margin, split or words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from data_pipeline.group_tables import MARGIN_BUCKETS
from worldpm.errors import ConfigError, InputError
from worldpm.schema import SPLITS

COLUMNS = (
    "group_id, site, question_id, prompt, responses, pairs, split, margin_buckets, tags, "
    "question_author, question_created, question_licence"
)


CONDITIONS = {
    "site": "site = $site",
    "tag": "list_contains(tags, $tag)",
    "margin": "list_contains(margin_buckets, $margin)",
    "split": "split = $split",
    "text": "(contains(lower(prompt[1].content), lower($text)) OR len(list_filter(responses, "
    "lambda response: contains(lower(response.content), lower($text)))) > 0)",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """Which groups to show; None does not filter. `text` is looked for in question and answers."""

    site: str | None = None
    tag: str | None = None
    margin: str | None = None
    split: str | None = None
    text: str | None = None


def find_groups(
    build_dir: Path, filters: Filters, *, limit: int, offset: int = 0
) -> list[dict[str, Any]]:
    """Some groups of a build in the global order, as rows of its groups files.

    Raises:
        InputError: the folder holds no groups.
        ConfigError: margin or split is none of those there are.
    """
    for value, known in ((filters.margin, MARGIN_BUCKETS), (filters.split, SPLITS)):
        if value is not None and value not in known:
            raise ConfigError(f"{value!r} is not one of {', '.join(known)}")
    values = {name: value for name in CONDITIONS if (value := getattr(filters, name)) is not None}
    query = f"SELECT {COLUMNS} FROM read_parquet($files)"
    if values:
        query += " WHERE " + " AND ".join(CONDITIONS[name] for name in values)
    return _query(build_dir, f"{query} LIMIT {int(limit)} OFFSET {int(offset)}", values)


def count_by_site(build_dir: Path) -> list[tuple[str, int]]:
    """The sites and their number of groups."""
    query = "SELECT site, count(*) AS n FROM read_parquet($files) GROUP BY site ORDER BY site"
    return [(row["site"], row["n"]) for row in _query(build_dir, query, {})]


def _query(build_dir: Path, query: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    files = sorted(str(path) for path in (build_dir / "groups").glob("*.parquet"))
    if not files:
        raise InputError(
            f"{build_dir} holds no groups/*.parquet: name the output_dir of a data build"
        )
    with duckdb.connect() as connection:
        result = connection.execute(query, {**values, "files": files})
        names = [column[0] for column in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
