"""The layout: which room holds what, how long a file may be, which way imports point."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from herdwatch.__main__ import missing_extra
from herdwatch.bundle.location import CONTENT_ROOMS

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "exporter" / "herdwatch"
LONGEST = 500
MADE_BY_TOOLS = {"__pycache__", "build", "dist"}
IMPORTED_AS = {"markdown-it-py": "markdown_it", "pyyaml": "yaml"}
"""Distributions whose module has another name."""

MODULES = sorted(PACKAGE.rglob("*.py"))
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


def folders(parent: Path) -> set[str]:
    return {
        path.name
        for path in parent.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in MADE_BY_TOOLS
    }


def name(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def test_the_signal_path_is_the_floor_plan() -> None:
    assert folders(CHECKOUT) == {"alerts", "dashboards", "deploy", "exporter", "runbooks", "tests"}


def test_the_source_root_holds_the_package_and_nothing_else() -> None:
    assert [path.name for path in (CHECKOUT / "exporter").iterdir() if path.name != "__pycache__"] == ["herdwatch"]


@pytest.mark.parametrize("room", CONTENT_ROOMS)
def test_a_content_room_holds_templates_and_beside_them_only_what_is_rendered_or_tests(room: str) -> None:
    below = {"alerts": {"tests"}, "dashboards": {"provisioning"}, "runbooks": set()}[room]
    assert folders(CHECKOUT / room) == {"templates"} | below
    for path in (CHECKOUT / room).rglob("*"):
        if path.is_file():
            kind = path.parent.name if path.parent.name in ("templates", "tests") else "rendered"
            endings = {
                "templates": (".j2",),
                "tests": (".test.yml", "equivalent-mutants.yml"),
                "rendered": (".yml", ".json", ".md", ".tmpl"),
            }[kind]
            assert path.name.endswith(endings), name(path)


def test_no_folder_lies_below_templates_or_tests_of_a_room() -> None:
    inner = [folder for room in CONTENT_ROOMS for folder in (CHECKOUT / room).glob("te*/*/")]
    assert inner == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_shorter_than_500_lines_and_says_what_it_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") < LONGEST
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", sorted((CHECKOUT / "tests").rglob("*.py")), ids=name)
def test_a_test_file_is_shorter_than_500_lines(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") < LONGEST


def test_imports_point_one_way() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": "exporter"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    kept = len(PYPROJECT["tool"]["importlinter"]["contracts"])
    assert f"Contracts: {kept} kept, 0 broken." in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_every_room_of_the_package_has_its_place_in_the_layers() -> None:
    [layers] = [one["layers"] for one in PYPROJECT["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    placed = {part for layer in layers for part in re.split(r"\s*[:|]\s*", layer)}
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" and not path.name.startswith("__")}
    assert placed == {f"herdwatch.{room}" for room in rooms | folders(PACKAGE)}


def imported() -> set[str]:
    """Top-level names of every module that the package imports from elsewhere."""
    found: set[str] = set()
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).partition(".")[0])
    return found - sys.stdlib_module_names - {"herdwatch"}


def brought_by(requirements: list[str]) -> set[str]:
    names = [re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower() for requirement in requirements]
    return {IMPORTED_AS.get(one, one.replace("-", "_")) for one in names} - {"herdwatch"}


def test_every_package_that_is_imported_is_declared() -> None:
    project = PYPROJECT["project"]
    declared = [project["dependencies"], *project["optional-dependencies"].values()]
    # The plugin for pytest is imported by pytest and by nothing else.
    assert imported() <= set().union(*map(brought_by, declared)) | {"pytest"}


@pytest.mark.parametrize("extra", ["exporter", "bundle"])
def test_a_package_that_is_missing_is_told_with_the_extra_that_declares_it(extra: str) -> None:
    modules = brought_by(PYPROJECT["project"]["optional-dependencies"][extra]) & imported()
    assert modules
    for module in modules:
        assert missing_extra(module).endswith(f"pip install 'herdwatch[{extra}]'"), module
