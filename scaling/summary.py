"""The report's opening in plain words: every sentence follows from verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from scaling.analysis import SetAnalysis
from scaling.verdict import VERDICTS, Verdict

WORDS: dict[Verdict, str] = {
    "falls": "falls with more data",
    "rises": "rises with more data",
    "flat": "stays flat",
    "breaks": "changes its course once",
    "undecided": "allows no verdict",
}
GROUPS = ("adversarial", "objective", "subjective", "safety", "in_distribution")
GROUP_WORDS = {"in_distribution": "in-distribution (the control)"}
# What the WorldPM paper reports for its own sizes of 1.5B to 72B, for the comparison.
PAPER = {
    "adversarial": "power-law decrease at every size",
    "objective": "emergent: none at 1.5B, some sets at 7B, all at 72B",
    "subjective": "no trend; losses converge early or rise",
    "safety": "reported, without a claim of a law",
    "in_distribution": "falls",
}


def summarise(sets: Sequence[SetAnalysis]) -> list[str]:
    """A few sentences, group by group."""
    sentences: list[str] = []
    for group in GROUPS:
        members = [one_set for one_set in sets if one_set.kind == group]
        if members:
            sentences += _group_sentences(group, members)
    emergent = [
        f"{found.size} on {one_set.test_set}"
        for one_set in sets
        for found in one_set.series["raw"].emergence
        if found.emergent
    ]
    if emergent:
        sentences.append(
            f"Emergence by the pre-registered rule is shown for {_join(emergent)}: the loss falls "
            "there, at no smaller size, and the slopes differ."
        )
    else:
        sentences.append("No size is emergent on any set by the pre-registered rule.")
    calibration = [
        f"{one_set.test_set} ({', '.join(one_set.calibration)})"
        for one_set in sets
        if one_set.calibration
    ]
    if calibration:
        sentences.append(
            f"On {_join(calibration)} only the raw loss rises, while ranking does not get worse: "
            "that is calibration, the scale of rewards, and not a loss of preference knowledge."
        )
    return sentences


def compare_with_paper(sets: Sequence[SetAnalysis]) -> list[tuple[str, str, str]]:
    """(group, what the paper found, what was found here) for every group that was measured."""
    rows: list[tuple[str, str, str]] = []
    for group in GROUPS:
        members = [one_set for one_set in sets if one_set.kind == group]
        if members:
            rows.append((GROUP_WORDS.get(group, group), PAPER[group], _counts(members)))
    return rows


def _group_sentences(group: str, members: Sequence[SetAnalysis]) -> list[str]:
    sentences = [f"{GROUP_WORDS.get(group, group).capitalize()} sets: {_counts(members)}."]
    for one_set in members:
        curves = one_set.series["raw"].curves
        found = {analysis.verdict for analysis in curves}
        if len(found) == 1:
            where = "at every size" if len(curves) > 1 else f"at {curves[0].curve.size}"
            word = WORDS[curves[0].verdict]
            sentences.append(f"On {one_set.test_set} the loss {word} {where}.")
            continue
        parts = [
            f"{WORDS[verdict]} at {_join(sizes)}"
            for verdict in VERDICTS
            if (sizes := [a.curve.size for a in curves if a.verdict == verdict])
        ]
        sentences.append(f"On {one_set.test_set} the loss {_join(parts, '; it ')}.")
    return sentences


def _counts(members: Sequence[SetAnalysis]) -> str:
    verdicts = [a.verdict for one_set in members for a in one_set.series["raw"].curves]
    parts = [
        f"{count} {verdict}"
        for verdict in VERDICTS
        if (count := sum(found == verdict for found in verdicts))
    ]
    noun = "curve" if len(verdicts) == 1 else "curves"
    return f"of {len(verdicts)} {noun} (set × size), {', '.join(parts)}"


def _join(parts: Sequence[str], separator: str = ", ") -> str:
    return separator.join(parts)
