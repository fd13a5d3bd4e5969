"""The rooms of the package and who may import whom, as docs/architecture.md draws them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "neuronatlas"
LONGEST_FILE = 400

BASE = ("neurons", "statistics")
MEASURES = ("overlaps", "depths")
FINDING = (*BASE, "models", "knowledge", "probing", "readers")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "neurons": (),
    "durable": (),
    "addresses": ("neurons",),
    "statistics": ("neurons",),
    "overlaps": BASE,
    "depths": BASE,
    "models": BASE,
    "knowledge": (*BASE, "durable", "models"),
    "probing": (*BASE, *MEASURES, "addresses", "durable", "models"),
    "readers": ("knowledge.edit_cases", "knowledge.facts", "probing.corpora"),
    "specimen": (),
    "atlas.provenance": ("neurons",),
    "atlas.store": ("neurons", "durable", "atlas.provenance"),
    "atlas": (*BASE, *MEASURES, "addresses", "durable", "atlas"),
    "studies": (*FINDING, *MEASURES, "addresses", "durable", "specimen", "atlas"),
    "cli": (*FINDING, *MEASURES, "addresses", "durable", "specimen", "atlas", "studies", ""),
    "": (*FINDING, *MEASURES, "specimen", "atlas", "studies"),
    "__main__": ("cli",),
}
"""What a module may import beside its own room; the longest entry that holds it counts. "" is the package itself."""


def within(module: str, room: str) -> bool:
    return module == room or (room != "" and module.startswith(f"{room}."))


def rule_of(module: str) -> str:
    return max((room for room in MAY_IMPORT if within(module, room)), key=len)


def allowed(module: str, imported: str) -> bool:
    rule = rule_of(module)
    return within(imported, rule) or any(within(imported, room) for room in MAY_IMPORT[rule])


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str, module: str, *, is_package: bool, known: set[str]) -> Iterator[str]:
    """Yield the package's modules that a source names in an import, wherever it stands, without the leading name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module, is_package=is_package)
            # `from neuronatlas.models import load` names a module where `load` is one, else the package that has it.
            names = [
                full if inner(full) in known else base for full in (f"{base}.{alias.name}" for alias in node.names)
            ]
        else:
            continue
        yield from (inner(name) for name in names if name.split(".")[0] == "neuronatlas")


def absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    above = ["neuronatlas", *filter(None, module.split("."))]
    above = above[: len(above) - node.level + is_package]
    return ".".join([*above, *filter(None, [node.module])])


def inner(name: str) -> str:
    return name.partition(".")[2]


def faults() -> list[str]:
    known = set(modules())
    return [
        f"{module or '__init__'} imports {imported or 'the package itself'}"
        for module, path in modules().items()
        for imported in imports(path.read_text("utf-8"), module, is_package=path.name == "__init__.py", known=known)
        if not allowed(module, imported)
    ]


def test_rooms_import_one_way_only() -> None:
    assert faults() == []


def test_every_module_belongs_to_a_room() -> None:
    rooms = {room.split(".")[0] for room in MAY_IMPORT}
    assert {module.split(".")[0] for module in modules()} <= rooms


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("neurons", "models"),
        ("models.replay", "knowledge.facts"),
        ("knowledge.facts", "probing.corpora"),
        ("probing.probe", "knowledge.facts"),
        ("readers.facts", "knowledge.attribution"),
        ("readers.facts", "models"),
        ("atlas.store", "statistics"),
        ("atlas.report", "knowledge.effects"),
        ("knowledge.effects", "atlas.store"),
        ("studies.demo", "cli"),
        ("models.loading", ""),
    ],
)
def test_the_rule_forbids_what_the_map_does_not_draw(module: str, imported: str) -> None:
    assert not allowed(module, imported)


@pytest.mark.parametrize(
    ("source", "module", "found"),
    [
        ("import neuronatlas.models.hooks", "cli", ["models.hooks"]),
        ("import neuronatlas as na", "studies.demo", [""]),
        ("from neuronatlas import models", "studies.demo", ["models"]),
        ("from neuronatlas.models import load", "studies.demo", ["models"]),
        ("from . import store", "atlas.report", ["atlas.store"]),
        ("from ..models.hooks import scale", "knowledge.effects", ["models.hooks"]),
        ("def f():\n    from neuronatlas.cli import app", "models.loading", ["cli"]),
        ("import torch\nfrom pathlib import Path", "models.loading", []),
    ],
)
def test_imports_are_found_however_they_are_written(source: str, module: str, found: list[str]) -> None:
    known = {"", "models", "models.hooks", "atlas", "atlas.store", "cli", "knowledge", "knowledge.effects"}
    assert list(imports(source, module, is_package=False, known=known)) == found


@pytest.mark.parametrize("path", modules().values(), ids=lambda path: module_name(path) or "__init__")
def test_no_file_passes_400_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST_FILE


def test_the_map_names_every_module() -> None:
    """docs/architecture.md tells what is where: each module and each package by its name, in code."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    missing = [module for module in modules() if module and module.rpartition(".")[2] not in named]
    assert not missing, f"docs/architecture.md does not name {', '.join(missing)}"
