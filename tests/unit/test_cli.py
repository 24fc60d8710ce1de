"""The command line: exit codes, one sentence on stderr, no traceback, and an exporter that ends when asked."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

import herdwatch
from herdwatch import __main__ as script
from herdwatch import cli, server
from herdwatch.bundle.location import bundle_root
from herdwatch.config import Config
from herdwatch.server import Web

SECONDS = 30.0
"""Deadline of every wait; what it waits for takes well under a second."""

Run = Callable[..., tuple[int, str, str]]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(herdwatch.__file__).parents[1])}
DEFAULT = bundle_root() / "herdwatch.yaml"
COMMANDS = sorted(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return command


def told(err: str) -> str:
    """The one sentence on stderr."""
    assert err.startswith("herdwatch: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("herdwatch: ").strip()


WRONG: dict[str, tuple[list[str], str]] = {
    "an unknown command": (["rendr"], "No such command 'rendr'"),
    "an unknown option": (["render", "--outt", "x"], "No such option: --outt"),
    "an option without its value": (["render", "--config"], "Option '--config' requires an argument"),
    "an argument too many": (["check", "a", "b"], "Got unexpected extra argument"),
    "a number out of range": (["bench", "--keys", "0"], "Invalid value for '--keys'"),
    "a number that is none": (["bench", "--keys", "many"], "Invalid value for '--keys'"),
    "a configuration that is not there": (["render", "--config", "gone.yaml"], "gone.yaml: no such file"),
    "a folder as configuration": (["exporter", "--config", "."], ".: cannot be read: Is a directory"),
    "two sources of caches": (
        ["exporter", "--config", "a", "--redis-url", "redis://h"],
        "give --config or --redis-url, not both",
    ),
    "a password without a URL": (["exporter", "--password-env", "X"], "--password-file go with --redis-url"),
    "a user without a URL": (["exporter", "--username", "x"], "--password-file go with --redis-url"),
    "a Redis URL that is none": (["exporter", "--redis-url", "127.0.0.1:6379"], "--redis-url: a Redis URL starts with"),
    "a password in the Redis URL": (
        ["exporter", "--redis-url", "redis://:hunter2@h"],
        "--redis-url: a password does not belong in the URL; name where it is kept: password_env or password_file",
    ),
    "a password that breaks the URL": (["exporter", "--redis-url", "redis://:hunter2/@h"], "--redis-url: not a URL"),
    "two passwords": (
        ["exporter", "--redis-url", "redis://h", "--password-env", "A", "--password-file", "b"],
        "--password-file: give password_env or password_file, not both",
    ),
    "an address that is none": (
        ["exporter", "--redis-url", "redis://h", "--listen", "9878"],
        "--listen: an address is HOST:PORT, as in 127.0.0.1:9878",
    ),
    "an address of nobody": (
        ["exporter", "--redis-url", "redis://h", "--listen", "192.0.2.1:9878"],
        "cannot listen on 192.0.2.1:9878: ",
    ),
    "a web configuration that is not there": (
        ["exporter", "--redis-url", "redis://h", "--web.config.file", "gone.yml"],
        "gone.yml: no such file; it is what --web.config.file names",
    ),
    "a folder without a bundle": (["check", "."], "holds no rendered bundle"),
    "a folder that is not there": (["check", "gone"], "gone: holds no rendered bundle"),
    "a name that is too long": (["check", "x" * 5000], "File name too long"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_usage_is_told_in_one_sentence_with_exit_code_2(run: Run, sentence: str) -> None:
    arguments, right = WRONG[sentence]
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert right in told(err)
    assert "hunter2" not in err


def test_no_command_at_all_lists_the_commands_with_exit_code_2(run: Run) -> None:
    code, out, err = run()
    assert code == 2
    assert "no command given" in told(err)
    assert all(f"  {name} " in out for name in COMMANDS)


def test_the_version_is_shown(run: Run) -> None:
    assert run("--version") == (0, f"herdwatch {herdwatch.__version__}\n", "")


def test_help_lists_every_command(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_is_for(run: Run, name: str) -> None:
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "")
    assert re.search(rf"(?s)^Usage: herdwatch {name} .*\n\n  [A-Z].*\.\n", out)
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    assert all(parameter.help for parameter in command.params)


def test_a_port_in_use_is_told_with_the_address(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, _, err = run("exporter", "--redis-url", "redis://127.0.0.1", "--listen", address)
    assert code == 2
    assert told(err) == f"cannot listen on {address}: Address already in use; choose another address with --listen"


def test_a_wrong_configuration_is_told_with_file_line_and_path(run: Run, tmp_path: Path) -> None:
    (tmp_path / "herdwatch.yaml").write_text("caches:\n  - name: users\n    ulr: redis://h\n    url: redis://h\n")
    code, _, err = run("render", "--out", "out")
    assert code == 2
    assert told(err).startswith("herdwatch.yaml:3: caches[0].ulr: unknown key; known here: name, url, ")
    assert not (tmp_path / "out").exists()


def test_rendering_lists_what_it_wrote_and_then_nothing_is_stale(run: Run, tmp_path: Path) -> None:
    code, out, err = run("render", "--out", "out", "--config", DEFAULT)
    written = {line.removeprefix("wrote ") for line in out.splitlines()}
    assert (code, err) == (0, "")
    assert written == {str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert run("render", "--out", "out", "--config", DEFAULT) == (0, "", "")
    code, out, err = run("render", "--check", "--out", "out", "--config", DEFAULT)
    assert (code, out, err) == (0, f"{len(written)} rendered files are in step with their templates\n", "")


def test_a_stale_file_fails_the_check_and_is_named(run: Run, tmp_path: Path) -> None:
    run("render", "--out", "out")
    rules = tmp_path / "out/alerts/herdwatch.rules.yml"
    rules.write_text(rules.read_text().replace("vector(1)", "vector(2)", 1))
    code, out, err = run("render", "--check", "--out", "out")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"herdwatch: 1 wrong\nalerts/herdwatch\.rules\.yml:\d+: differs from its template; .*\n", err)
    assert "vector(2)" in rules.read_text()


def test_a_file_where_the_bundle_should_go_is_told_with_exit_code_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    code, out, err = run("render", "--out", "out", "--config", DEFAULT)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"out\S*: cannot be written: Not a directory", told(err))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_rendered_bundle_passes_the_check_and_a_spoilt_one_fails_it_with_file_and_line(
    run: Run, tmp_path: Path
) -> None:
    run("render", "--out", "out")
    code, out, err = run("check", "out")
    assert (code, err) == (0, "")
    assert out.startswith("the bundle is right: ")
    rules = tmp_path / "out/alerts/herdwatch.rules.yml"
    rules.write_text(rules.read_text().replace("sum without (db) (cache_keys)", "sum without (db) (cache_kyes)"))
    code, out, err = run("check", "out")
    assert (code, out) == (1, "")
    assert re.search(r"alerts/herdwatch\.rules\.yml:\d+: cache_keys_total: nobody exports or records cache_kyes", err)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupt_is_told_with_exit_code_130(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(server, "serve", interrupted)
    assert run("exporter", "--redis-url", "redis://h") == (130, "", "herdwatch: interrupted\n")


def test_an_older_python_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    assert script.main() == 2
    assert told(capsys.readouterr().err) == "this is Python 3.10.4; install Python 3.11 or later"


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("typer", ["--version"], "exporter"),
        ("pydantic", ["--version"], "exporter"),
        ("yaml", ["render"], "exporter"),
        ("uvicorn", ["exporter", "--redis-url", "redis://h"], "exporter"),
        ("markdown_it", ["exporter", "--redis-url", "redis://h"], "exporter"),
        ("jinja2", ["render"], "bundle"),
        ("promql_parser", ["check"], "bundle"),
        ("grafana_foundation_sdk", ["render"], "bundle"),
    ],
)
def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    tmp_path: Path, module: str, arguments: list[str], extra: str
) -> None:
    code = f"import runpy, sys; sys.modules[{module!r}] = None; sys.argv[1:] = {arguments!r}; "
    code += "runpy.run_module('herdwatch', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=tmp_path, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (2, "")
    assert told(done.stderr) == f"the Python package {module} is missing; run: pip install 'herdwatch[{extra}]'"


def test_a_fault_of_our_own_is_not_called_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "herdwatch.cli", None)
    with pytest.raises(ModuleNotFoundError, match="herdwatch"):
        script.main()


@contextmanager
def exporter(log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`herdwatch exporter` as a process of its own, for a Redis that is not there; with the address it listens on."""
    with socket.socket() as taken:  # bound but not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "herdwatch", "exporter", "--redis-url", url, "--listen", "127.0.0.1:0"]
        with log.open("wb") as stderr:
            process = subprocess.Popen(command, stderr=stderr, cwd=log.parent, env=ENVIRONMENT)
        try:
            yield process, address_in(log, process)
        finally:
            process.kill()
            process.wait(SECONDS)


def address_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"listens on (http://\S+)\n", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the exporter did not start: {log.read_text()}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_exporter_of_an_unreachable_redis_answers_and_ends_when_asked(
    tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "stderr"
    with exporter(log) as (process, address):
        for _ in range(2):
            with urllib.request.urlopen(f"{address}/metrics", timeout=SECONDS) as answer:  # noqa: S310 - our own
                samples = answer.read().decode().splitlines()
            assert answer.status == 200
            assert "cache_up 0.0" in samples
            assert 'cache_failure{reason="refused"} 1.0' in samples
            assert [line for line in samples if line.startswith("cache_keys")] == []
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
    assert "Traceback" not in log.read_text()


def test_pages_that_are_not_there_are_told_before_it_listens(run: Run, tmp_path: Path) -> None:
    code, _, told = run("exporter", "--runbooks", str(tmp_path / "nowhere"), "--listen", "127.0.0.1:0")
    assert code == 2
    assert "there is no such folder; --runbooks names one of rendered pages" in told


def test_the_default_configuration_is_that_of_the_bundle(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[str, Path]] = []

    def serve(read: Callable[[], Config], *, runbooks: Path, web: Web) -> None:
        assert (web.tls, web.users) == (None, {})
        served.append((read().exporter.listen, runbooks))

    monkeypatch.setattr(server, "serve", serve)
    code, out, err = run("exporter", "--listen", "127.0.0.1:0")
    assert (code, out, served) == (0, "", [("127.0.0.1:0", bundle_root() / "runbooks")])
    assert told(err).startswith(f"{Path.cwd()} has no herdwatch.yaml; the default one is taken, {DEFAULT}; ")


def scraped_once(*redirections: str) -> subprocess.CompletedProcess[str]:
    """`exporter --once` in a shell whose terminal shows ASCII alone."""
    command = f"{sys.executable} -m herdwatch exporter --once --config caches.yaml {' '.join(redirections)}"
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    return subprocess.run(["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=SECONDS)


def test_what_a_terminal_cannot_show_is_replaced_and_a_closed_one_is_shown_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    caches = [f"  - {{name: {name}, url: 'unix:///nowhere/{name}', team: Käse}}\n" for name in "ab"]
    Path("caches.yaml").write_text("caches:\n" + "".join(caches), encoding="utf-8")
    shown, closed = scraped_once(), scraped_once(">&-")
    assert 'cache_up{cache="b",instance="/nowhere/b",team="K?se"} 0.0' in shown.stdout
    for ended in (shown, closed):
        assert (ended.returncode, ended.stderr.count("nothing listens there")) == (1, 2)
        assert "Traceback" not in ended.stderr
