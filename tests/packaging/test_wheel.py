"""The wheel: what it holds, that it renders without a checkout, that its bottom row needs no other package."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

import pytest
from tests.packaging.programs import CHECKOUT, run

from herdwatch import __version__
from herdwatch.bundle.location import CONTENT_ROOMS
from herdwatch.config import schema

ALONE = """
import sys
sys.path.insert(0, {wheel!r})
import herdwatch.reports, herdwatch.metrics, herdwatch.errors
assert herdwatch.__file__.startswith({wheel!r}), herdwatch.__file__
known = {{*sys.stdlib_module_names, *sys.builtin_module_names, "herdwatch"}}
print(sorted({{name.partition(".")[0] for name in sys.modules}} - known))
"""

GUARD = """
import sys
sys.path[:0] = [{wheel!r}, {base!r}]
from herdwatch.guard import Flight, Guard, LoadTimeout, RemoteLoadError, Reporter, Shed, SyncFlight, SyncGuard
import herdwatch.guard.testing
assert herdwatch.guard.__file__.startswith({wheel!r}), herdwatch.guard.__file__
print(sorted({{"pydantic", "typer", "rich", "jinja2", "yaml", "starlette", "uvicorn"}} & set(sys.modules)))
"""
"""Imports the guard where only the packages of a bare installation are."""


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel unpacked in it, and no checkout around."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_installs_one_name_and_its_metadata(content: set[str]) -> None:
    assert {name.partition("/")[0] for name in content} == {"herdwatch", f"herdwatch-{__version__}.dist-info"}


def test_the_code_in_the_wheel_is_the_code_in_the_checkout(content: set[str], tracked: list[str]) -> None:
    code = {name for name in content if name.startswith("herdwatch/") and not name.startswith("herdwatch/_bundle/")}
    assert code == {name.removeprefix("exporter/") for name in tracked if name.startswith("exporter/")}
    assert "herdwatch/py.typed" in code


def test_the_bundle_in_the_wheel_is_the_bundle_in_the_checkout(content: set[str], tracked: list[str]) -> None:
    bundle = {name.removeprefix("herdwatch/_bundle/") for name in content if name.startswith("herdwatch/_bundle/")}
    assert bundle == {
        name for name in tracked if name.partition("/")[0] in (*CONTENT_ROOMS, "herdwatch.yaml", schema.FILE)
    }
    assert "alerts/templates/herdwatch.rules.yml.j2" in bundle
    assert "alerts/herdwatch.rules.yml" in bundle


def test_the_source_archive_holds_what_git_knows(archived: set[str], tracked: list[str]) -> None:
    assert archived == {*tracked, "PKG-INFO"} - {".ci/run"}


def test_the_wheel_installs_the_command(installed: Path) -> None:
    entry_points = (installed / f"herdwatch-{__version__}.dist-info/entry_points.txt").read_text()
    assert "herdwatch = herdwatch.__main__:main" in entry_points


def test_the_wheel_renders_the_committed_bundle_without_a_checkout(
    installed: Path, tracked: list[str], tmp_path: Path
) -> None:
    done = run(sys.executable, "-m", "herdwatch", "render", "--out", "out", cwd=tmp_path, path=installed)
    assert done.returncode == 0
    assert done.stderr.endswith("herdwatch.yaml; --config FILE names another\n")
    rendered = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert rendered == {
        name
        for name in tracked
        if name.partition("/")[0] in (*CONTENT_ROOMS, schema.FILE)
        and not {"templates", "tests"} & set(Path(name).parts)
    }
    assert {
        name for name in rendered if (tmp_path / "out" / name).read_bytes() != (CHECKOUT / name).read_bytes()
    } == set()


def test_what_applications_import_needs_nothing_but_the_standard_library(installed: Path, tmp_path: Path) -> None:
    done = run(sys.executable, "-I", "-S", "-c", ALONE.format(wheel=str(installed)), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['__main__']\n", "")


def test_the_guard_needs_nothing_but_the_packages_of_a_bare_installation(installed: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    # What redis-py itself brings where Python's own timeouts are too old for it.
    older = ["async_timeout"] if sys.version_info < (3, 11, 3) else []
    for name in ("redis", "hiredis", "prometheus_client", *older):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        (base / name).symlink_to(Path(spec.origin).parent)
    code = GUARD.format(wheel=str(installed), base=str(base))
    done = run(sys.executable, "-I", "-S", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_the_command_without_its_packages_says_which_extra_to_install(installed: Path, tmp_path: Path) -> None:
    code = f"import runpy, sys; sys.path.insert(0, {str(installed)!r}); runpy.run_module('herdwatch', None, '__main__')"
    done = run(sys.executable, "-I", "-S", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("herdwatch: the Python package ")
    assert done.stderr.endswith(" is missing; run: pip install 'herdwatch[exporter]'\n")
