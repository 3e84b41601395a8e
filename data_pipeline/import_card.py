"""The data card of imported groups: where every item went, what the groups hold, who agreed."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.sources.preference_sets import ImportSource
from data_pipeline.sources.preference_sets.label_studio import Agreement
from worldpm.artifacts import StageCounts, atomic_file
from worldpm.group_files import read_group_file


def write_import_card(
    groups: Path, source: ImportSource, counts: StageCounts, agreement: Agreement | None
) -> None:
    """Write `<groups>.card.md` beside a group file that stands already."""
    num_responses = num_pairs = 0
    for group in read_group_file(groups):
        num_responses += len(group.responses)
        num_pairs += len(group.pairs)
    lines = [
        f"# Data card: {source.name}",
        "",
        f"{num_pairs:,} preference pairs among {num_responses:,} responses to {counts.rows_out:,} "
        f"prompts, read from `{source.path.name}` as {source.format}; licence: "
        f"{source.licence or 'not stated'}.",
        "",
        *_agreement_lines(agreement),
        "## Where every item went",
        "",
        "| | items |",
        "|---|---|",
        f"| read | {counts.rows_in:,} |",
        *(f"| dropped: {reason} | {amount:,} |" for reason, amount in counts.dropped.items()),
        f"| groups | {counts.rows_out:,} |",
    ]
    with atomic_file(groups.with_suffix(".card.md")) as file:
        file.write("\n".join(lines) + "\n")


def _agreement_lines(agreement: Agreement | None) -> list[str]:
    if agreement is None:
        return []
    alpha = "unknown, for no comparison was made twice"
    if agreement.alpha is not None:
        alpha = f"{agreement.alpha:.3f} (1: perfect, 0: as by chance)"
    return [
        "## Agreement of the annotators",
        "",
        f"Krippendorff's α {alpha}; {agreement.num_comparisons:,} comparisons by "
        f"{agreement.num_annotators:,} annotators.",
        "",
    ]
