"""The dependency rule holds for every module, and no file imports the package `eval` by name."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PACKAGES = ("worldpm", "data_pipeline", "scaling", "eval")


def _layers(project_root: Path) -> list[str]:
    project = tomllib.loads((project_root / "pyproject.toml").read_text())
    contract = project["tool"]["importlinter"]["contracts"][0]
    return [name.strip() for layer in contract["layers"] for name in layer.split("|")]


def _modules(project_root: Path) -> list[str]:
    return [
        ".".join(path.relative_to(project_root).with_suffix("").parts).removesuffix(".__init__")
        for package in PACKAGES
        for path in (project_root / package).rglob("*.py")
    ]


def test_every_module_stands_in_a_layer(project_root: Path) -> None:
    layers = _layers(project_root)
    homeless = [
        module
        for module in _modules(project_root)
        if module != "worldpm"
        and not any(module == layer or module.startswith(layer + ".") for layer in layers)
    ]
    assert homeless == []


def test_nobody_shadows_the_builtin_eval(project_root: Path) -> None:
    pattern = re.compile(r"^\s*import eval\b|^\s*from (\.+)? ?import eval\b", re.MULTILINE)
    folders = (*PACKAGES, "tests", "benchmarks")
    found = [
        path
        for folder in folders
        for path in (project_root / folder).rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
