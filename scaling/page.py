"""Write the report as one self-contained HTML page and as Markdown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from scaling.analysis import CurveAnalysis, SetAnalysis
from scaling.collect import LeftOut, Run, summarise_left_out
from scaling.config import ReportConfig
from scaling.number_text import short_number
from worldpm.artifacts import atomic_file

HTML_FILE = "report.html"
MARKDOWN_FILE = "report.md"
CARD_FILE = "card.md"  # of `worldpm data build`
TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Page:
    """What the page shows; `figures` maps a name to caption and PNG."""

    title: str
    summary: Sequence[str]
    comparison: Sequence[tuple[str, str, str]]
    sets: Sequence[SetAnalysis]
    runs: Sequence[Run]
    left_out: Sequence[LeftOut]
    figures: dict[str, tuple[str, Path]]
    charts: list[dict[str, Any]]
    command: str
    config: ReportConfig


def write_page(output_dir: Path, page: Page) -> None:
    """Write `report.html` and `report.md`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short_number, "signed": lambda value: f"{value:+.4f}"}
    values = _template_values(page)
    for template, name in (("report.html.jinja", HTML_FILE), ("report.md.jinja", MARKDOWN_FILE)):
        text = environment.get_template(template).render(values)
        with atomic_file(output_dir / name) as file:
            file.write(text)


def _template_values(page: Page) -> dict[str, Any]:
    # "</" would end the script element that the data stand in.
    data = json.dumps(page.charts, allow_nan=False).replace("</", "<\\/")
    return {
        "page": page,
        "rows": [row for one_set in page.sets for row in _rows(one_set)],
        "joint_rows": [row for one_set in page.sets for row in _joint_rows(one_set)],
        "left_out": summarise_left_out(page.left_out),
        "images": {name: _data_uri(path) for name, (_, path) in page.figures.items()},
        "chart_data": data,
        "script": (TEMPLATES / "charts.js").read_text(encoding="utf-8"),
        "style": (TEMPLATES / "report.css").read_text(encoding="utf-8"),
        "confidence": f"{page.config.bootstrap.confidence:.0%}",
        "data_cards": _data_cards(page),
        "commits": sorted({str(run.record.environment.get("commit")) for run in page.runs}),
    }


def _data_cards(page: Page) -> list[str]:
    if page.config.data_card is not None:
        return [str(page.config.data_card)]
    sources = {run.record.config.get("data", {}).get("path") for run in page.runs}
    cards = [Path(source) / CARD_FILE for source in sources if source]
    return sorted(str(card.resolve()) for card in cards if card.is_file())


def _rows(one_set: SetAnalysis) -> list[dict[str, Any]]:
    emergent = {found.size for found in one_set.series["raw"].emergence if found.emergent}
    rows: list[dict[str, Any]] = []
    readings = zip(
        one_set.series["raw"].curves,
        one_set.series["temperature"].curves,
        one_set.series["style"].curves,
        one_set.accuracy,
        strict=True,
    )
    for raw, scaled, styled, accuracy in readings:
        last = len(raw.curve.value) - 1
        notes: list[str] = []
        if raw.curve.size in emergent:
            notes.append("emergent")
        if raw.curve.size in one_set.calibration:
            notes.append("calibration")
        fit = raw.fits[raw.selected] if raw.selected else None
        rows.append(
            {
                "test_set": one_set.test_set,
                "kind": one_set.kind.replace("_", "-"),
                "size": raw.curve.size,
                "seeds": len(raw.curve.seeds),
                "points": last + 1,
                "verdict": raw.verdict,
                "evidence": raw.evidence,
                "slope": raw.tendency,
                "scaled": scaled.verdict,
                "styled": styled.verdict,
                "form": raw.selected or "",
                "parameters": "" if fit is None else _parameters(fit.parameters, raw),
                "prediction": _prediction(raw),
                "held_out": raw.held_out.get(raw.selected or ""),
                "loss": _with_band(raw, last),
                "accuracy": _with_band(accuracy, last),
                "notes": ", ".join(notes),
            }
        )
    return rows


def _parameters(parameters: Mapping[str, float], analysis: CurveAnalysis) -> str:
    parts: list[str] = []
    for name, value in parameters.items():
        low, high = analysis.parameter_intervals.get(name, (float("nan"), float("nan")))
        parts.append(f"{name} {value:.3g} [{low:.3g}, {high:.3g}]")
    return "; ".join(parts)


def _prediction(analysis: CurveAnalysis) -> str:
    if not analysis.extrapolations:
        return ""
    farthest = analysis.extrapolations[-1]
    where = f"at {short_number(farthest['num_samples'])}: "
    if "refused" in farthest:
        return where + f"refused, {farthest['refused']}"
    low, high = farthest["interval"]
    return where + f"{farthest['loss']:.3f} [{low:.3f}, {high:.3f}]"


def _with_band(analysis: CurveAnalysis, index: int) -> str:
    if index < 0:
        return ""
    low, high = analysis.bands[:, index]
    return f"{analysis.curve.value[index]:.3f} [{low:.3f}, {high:.3f}]"


def _joint_rows(one_set: SetAnalysis) -> list[dict[str, Any]]:
    joint = one_set.series["raw"].joint
    if joint.fit is None:
        return [{"test_set": one_set.test_set, "refused": joint.refused, "cautions": []}]
    cells = {
        name: f"{joint.fit.parameters[name]:.3g} [{low:.3g}, {high:.3g}]"
        for name, (low, high) in joint.intervals.items()
        if name in joint.fit.parameters
    }
    return [
        {
            "test_set": one_set.test_set,
            "refused": "",
            **cells,
            "fit": joint.fit,
            "cautions": joint.cautions,
        }
    ]


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
