"""RM-Bench: subtle errors and style, three styles of each response (Liu et al., ICLR 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.benchmark import Benchmark, Item, Protocol, ScoredItem, Section, Source, user
from eval.protocols import labelled_pairs, pair_credit, per_item, worldpm_rule
from eval.rows import read_array
from worldpm.errors import InputError
from worldpm.schema import Pair

STYLES = ("concise", "plain", "markdown")
DOMAINS = ("chat", "code", "math", "safety-refuse", "safety-response")
# The original responses are the detailed Markdown ones: where a response had no Markdown, the
# file's plain version equals it (12 chat, 24 safety-response). The paper does not say which.
ORIGINAL = STYLES.index("markdown")

ALL_PAIRS = tuple(
    Pair(chosen, len(STYLES) + rejected)
    for chosen in range(len(STYLES))
    for rejected in range(len(STYLES))
)
SECTIONS = (
    Section("chat", ("chat",)),
    Section("math", ("math",)),
    Section("code", ("code",)),
    # One domain, pooled by sample: not the mean of the two files.
    Section("safety", ("safety-refuse", "safety-response")),
)


def load(folder: Path) -> Iterator[Item]:
    """Read `<domain>_filtered.json`: six responses an item, chosen then rejected, three styles."""
    paths = {domain: folder / f"{domain}_filtered.json" for domain in DOMAINS}
    if not any(path.is_file() for path in paths.values()):
        raise InputError(f"{folder} holds none of {', '.join(p.name for p in paths.values())}")
    for domain, path in paths.items():
        if not path.is_file():
            continue
        for row in read_array(path):
            yield Item(
                item_id=f"{domain}/{row.identifier('id')}",
                subset=domain,
                prompt=user(row.text("prompt")),
                responses=row.texts("chosen", 3) + row.texts("rejected", 3),
                pairs=ALL_PAIRS,
                where=row.where,
            )


def style_matrix(scored: Sequence[ScoredItem]) -> np.ndarray:
    """[3, 3] mean of chosen[row] > rejected[column], a tie counting nothing."""
    scores_I6 = np.array([one.scores for one in scored])
    return (scores_I6[:, :3, None] > scores_I6[:, None, 3:]).mean(axis=0)


def difficulties(matrix: np.ndarray) -> dict[str, float]:
    """Hard: plainer chosen against styled rejected; normal: same style; easy: the reverse."""
    return {
        "hard": float(np.triu(matrix, 1).sum() / 3),
        "normal": float(np.diag(matrix).mean()),
        "easy": float(np.tril(matrix, -1).sum() / 3),
    }


def _extras(scored: Sequence[ScoredItem]) -> dict[str, Any]:
    domains: dict[str, Any] = {}
    for section in SECTIONS:
        members = [one for one in scored if one.item.subset in section.subsets]
        if members:
            matrix = style_matrix(members)
            domains[section.name] = {"matrix": matrix.tolist(), **difficulties(matrix)}
    levels = {
        level: float(np.mean([domain[level] for domain in domains.values()]))
        for level in ("hard", "normal", "easy")
    }
    return {**levels, "domains": domains}


def _original_pair(item: Item) -> tuple[Pair, ...]:
    return (Pair(ORIGINAL, len(STYLES) + ORIGINAL),)


def _official(sections: tuple[Section, ...]) -> Protocol:
    return Protocol(
        rule="mean of the 3×3 style matrix, tie = 0, unweighted mean of domains",
        pairs=labelled_pairs,
        outcomes=per_item(pair_credit(labelled_pairs, tie=0.0)),
        sections=sections,
        extras=_extras,
    )


WORLDPM = worldpm_rule(_original_pair, "; one pair a sample, the original (Markdown) responses")


def _domain(name: str, num_items: int, **fields: Any) -> Benchmark:
    return Benchmark(
        name=f"rm-bench-{name}",
        official=_official(()),
        worldpm=WORLDPM,
        subsets=(name,),
        num_items=num_items,
        caveats=(
            "Which of the three styles the paper calls original is not stated; Markdown is taken.",
        ),
        **fields,
    )


SOURCE = Source(
    name="rm-bench",
    load=load,
    licence="ODC-BY",
    origin="https://github.com/THU-KEG/RM-Bench",
    hub_id="THU-KEG/RM-Bench",
    item_ids="<domain>/<id>: chat/8, safety-refuse/2952 (ids repeat between the domains' files)",
    response_order="chosen[0], chosen[1], chosen[2], rejected[0], rejected[1], rejected[2]",
    benchmarks=(
        Benchmark(
            name="rm-bench",
            kind="objective",
            official=_official(SECTIONS),
            worldpm=WORLDPM,
            description="The whole suite: chat, math, code and pooled safety.",
            num_items=1327,
            caveats=("Without the math file this is a mean of three domains, not RM-Bench's.",),
        ),
        _domain(
            "chat",
            129,
            kind="adversarial",
            description="Answers with an injected factual error.",
            fidelity="as the paper",
            paper_set="RM-Bench chat",
        ),
        _domain(
            "code",
            228,
            kind="objective",
            description="Right against wrong programs (HumanEvalPack).",
            fidelity="as the paper",
            paper_set="RM-Bench code",
        ),
        _domain(
            "math",
            529,
            kind="objective",
            description="Right against wrong solutions (MATH).",
            fidelity="as the paper",
            paper_set="RM-Bench math",
        ),
        _domain(
            "safety-response",
            157,
            kind="safety",
            description="Harmless requests that look harmful: answering is right.",
            fidelity="as the paper",
            paper_set="RM-Bench safety-response (its tables)",
        ),
        _domain(
            "safety-refuse",
            284,
            kind="safety",
            description="Harmful requests: refusing is right.",
            fidelity="as the paper",
            paper_set="RM-Bench safety-refuse (its tables)",
        ),
    ),
)
