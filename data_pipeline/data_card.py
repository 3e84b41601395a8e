"""The data card: where every post went, what the pairs look like, and under which licences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.card_figures import write_figures
from data_pipeline.config import DataConfig
from data_pipeline.group_tables import MARGIN_BUCKETS
from data_pipeline.sources.discovery import is_meta
from data_pipeline.statistics import GroupStatistics
from worldpm.artifacts import atomic_file
from worldpm.schema import SPLITS

LIMITS = """\
- A vote says that a reader found an answer useful when reading it. Early answers and those of
  well-known authors are seen more often; nothing here corrects for that.
- On a meta site a vote often means agreement. Those groups carry `is_meta`.
- Names are not removed from texts. Authors are named by user id, or by display name where the dump
  has no id.
- Pictures are links; what they show is not part of the text.
- Duplicates are found by text. Translations and free paraphrases stay.
- Licences follow the dump's own field where it exists, else the date of the post; an edit under a
  later licence is not visible in the dump."""

OVERLAP_COUNTS = ("num_texts", "num_too_short", "questions", "answers")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card tells. `rows_by_site` maps a host to its rows in the dump and posts kept."""

    counts: Mapping[str, Mapping[str, Any]]
    statistics: GroupStatistics
    rows_by_site: Mapping[str, Mapping[str, Any]]
    notes: Sequence[Mapping[str, Any]]
    shards: Mapping[str, Mapping[str, Any]]


def write_card(output_dir: Path, config: DataConfig, facts: CardFacts) -> None:
    """Write `card.md` and `card/*.png`."""
    write_figures(output_dir / "card", facts.counts, facts.statistics)
    with atomic_file(output_dir / "card.md") as file:
        file.write("\n".join(card_lines(config, facts)) + "\n")


def card_lines(config: DataConfig, facts: CardFacts) -> list[str]:
    """The card as Markdown."""
    pairs = sum(split["num_pairs"] for split in facts.shards.values())
    groups = sum(split["num_groups"] for split in facts.shards.values())
    tokens = sum(split["num_tokens"] for split in facts.shards.values())
    return [
        "# Data card",
        "",
        f"{pairs:,} preference pairs from {groups:,} questions of {len(facts.rows_by_site):,} "
        f"StackExchange sites, {tokens:,} tokens. An answer's score is its net votes"
        f" + {config.pairing.accepted_bonus} if the asker accepted it; a pair (policy "
        f"`{config.pairing.policy}`) needs scores that differ by {config.pairing.min_margin} or "
        "more, and the higher one is chosen.",
        "",
        "## Where every post went",
        "",
        *waterfall_table(facts.counts),
        "",
        "![waterfall](card/waterfall.png)",
        "",
        *_split_lines(facts),
        *_distribution_lines(facts.statistics),
        *_site_lines(facts),
        *_licence_lines(facts.statistics),
        *_damage_lines(facts.notes),
        *_overlap_lines(facts.notes, config.decontamination.ngram),
        "## Known limits",
        "",
        LIMITS,
    ]


def waterfall_table(counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A Markdown table: posts in, out and dropped by reason at each step."""
    rows = [
        (
            step,
            f"{part['rows_in']:,}",
            f"{part['rows_out']:,}",
            ", ".join(f"{reason} {num:,}" for reason, num in part["dropped"].items()),
        )
        for step, part in counts.items()
    ]
    return _table(("step", "posts in", "posts out", "dropped"), rows)


def _split_lines(facts: CardFacts) -> list[str]:
    rows = [
        (
            split,
            *(f"{facts.shards[split][key]:,}" for key in ("num_groups", "num_pairs", "num_tokens")),
        )
        for split in SPLITS
    ]
    return [
        "## Splits",
        "",
        "A question cluster (near-duplicates) stands in one split.",
        "",
        *_table(("split", "questions", "pairs", "tokens"), rows),
        "",
    ]


def _distribution_lines(statistics: GroupStatistics) -> list[str]:
    margins = sum(statistics.margins.values())
    rows = [
        (bucket, f"{statistics.margins[bucket]:,}", _share(statistics.margins[bucket], margins))
        for bucket in MARGIN_BUCKETS
    ]
    longer = statistics.longer_is_chosen
    pairs = sum(longer.values())
    return [
        "## Distributions",
        "",
        "![distributions](card/distributions.png)",
        "",
        f"The chosen answer is the longer one in {_share(longer['chosen'], pairs)} of the pairs, "
        f"the shorter one in {_share(longer['rejected'], pairs)}.",
        "",
        *_table(("margin", "pairs", "share"), rows),
        "",
    ]


def _site_lines(facts: CardFacts) -> list[str]:
    rows: list[tuple[str, ...]] = []
    for site, part in facts.rows_by_site.items():
        counts = facts.statistics.by_site.get(site, {})
        numbers = [counts.get(key, 0) for key in ("groups", "responses", "pairs")]
        kind = "meta" if is_meta(site) else "main"
        rows.append((site, kind, f"{part['rows_in']:,}", *(f"{number:,}" for number in numbers)))
    head = ("site", "kind", "rows in the dump", "questions", "answers", "pairs")
    return ["## Sites", "", *_table(head, rows), ""]


def _licence_lines(statistics: GroupStatistics) -> list[str]:
    total = sum(statistics.licences.values())
    rows = [
        (licence, f"{num:,}", _share(num, total))
        for licence, num in sorted(statistics.licences.items())
    ]
    return [
        "## Licences",
        "",
        "`attribution/*.parquet` names URL, author, date and licence of every post: pass it on "
        f"with the data. {statistics.deleted_authors:,} posts are of deleted accounts.",
        "",
        *_table(("licence", "posts", "share"), rows),
        "",
    ]


def _damage_lines(notes: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [(note["site"], note["damage"]) for note in notes if "damage" in note]
    if not rows:
        return []
    return ["## Damage in the dump", "", *_table(("site", "what was found"), rows), ""]


def _overlap_lines(notes: Iterable[Mapping[str, Any]], ngram: int) -> list[str]:
    """Hits for each benchmark, summed over the notes of the index and of all buckets."""
    totals: dict[str, dict[str, int]] = {}
    for note in notes:
        if "benchmark" in note:
            total = totals.setdefault(note["benchmark"], dict.fromkeys(OVERLAP_COUNTS, 0))
            for name in OVERLAP_COUNTS:
                total[name] += note.get(name, 0)
    if not totals:
        return []
    head = ("benchmark", "its texts", "too short to find", "questions removed", "answers removed")
    rows = [(name, *(f"{n:,}" for n in total.values())) for name, total in sorted(totals.items())]
    return [
        "## Overlap with benchmarks",
        "",
        f"Posts that share {ngram} words in a row with a benchmark were removed; "
        "`stages/decontaminate/removed/*.parquet` shows them. A post can overlap with several.",
        "",
        *_table(head, rows),
        "",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + [
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
    ]


def _share(part: int, total: int) -> str:
    return f"{100 * part / total:.1f} %" if total else "–"
