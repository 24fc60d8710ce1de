"""deploy/: the systemd unit and the Dockerfile say only what systemd, Docker and our own command line understand."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import typer
from tests.packaging import dockerfile
from tests.packaging.dockerfile import Instruction
from tests.packaging.programs import CHECKOUT

from herdwatch.bundle import pages
from herdwatch.cli import app
from herdwatch.config import Config

DEPLOY = CHECKOUT / "deploy"
GUIDE = (DEPLOY / "README.md").read_text()
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SECRET = re.compile(r"passw|secret|token|credential|api_?key", re.IGNORECASE)
PORT = Config.model_validate({"caches": [{"name": "c", "url": "redis://h"}]}).exporter.listen.rpartition(":")[2]

YES_NO = {
    *("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateUsers", "ProtectClock"),
    *("ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables"),
    *("LockPersonality", "MemoryDenyWriteExecute", "RemoveIPC", "RestrictNamespaces", "RestrictRealtime"),
    "RestrictSUIDSGID",
}
KNOWN = {
    "Unit": {"Description", "After", "Wants", "StartLimitIntervalSec"},
    "Service": {
        *("Type", "ExecStart", "ExecReload", "Restart", "RestartForceExitStatus", "RestartSec", "RestartSteps"),
        *(
            "RestartMaxDelaySec",
            "TimeoutStopSec",
            "LoadCredential",
            "SetCredential",
            "LimitNOFILE",
            "UMask",
            "CapabilityBoundingSet",
        ),
        *("AmbientCapabilities", "ProtectSystem", "DevicePolicy", "ProtectProc", "KeyringMode"),
        *("RestrictAddressFamilies", "SystemCallArchitectures", "SystemCallFilter", "SystemCallErrorNumber"),
        *YES_NO,
    },
    "Install": {"WantedBy"},
}
"""The sections and keys of systemd.unit(5), systemd.service(5) and systemd.exec(5) that the unit uses."""
REPEATED = {"SystemCallFilter"}


def unit() -> list[tuple[str, str, str]]:
    """(section, key, value) of each line; a line that is neither these, a comment nor empty is an error."""
    found, section = [], ""
    for line in (DEPLOY / "herdwatch-exporter.service").read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            found.append((section, key, value))
    return found


UNIT = {key: value for _, key, value in unit()}
STAGES = dockerfile.parse((DEPLOY / "Dockerfile").read_text())
FINAL = {instruction.name: instruction for instruction in STAGES[-1]}
IGNORE = dockerfile.rules((CHECKOUT / ".dockerignore").read_text())


def of(name: str) -> list[Instruction]:
    return [instruction for stage in STAGES for instruction in stage if instruction.name == name]


def accepted(words: list[str]) -> dict[str, object]:
    """The options that the command line makes of `herdwatch VERB ARGUMENT ...`; the program itself may be a path."""
    program, verb, *arguments = words
    assert Path(program).name == "herdwatch"
    given: dict[str, object] = VERBS[verb].make_context(verb, arguments).params
    return given


def test_the_unit_has_only_sections_and_keys_that_systemd_knows() -> None:
    assert [(section, key) for section, key, _ in unit() if key not in KNOWN.get(section, ())] == []


def test_a_key_of_the_unit_stands_once_unless_it_is_a_list() -> None:
    counts = Counter(key for _, key, _ in unit())
    assert {key for key, count in counts.items() if count > 1} == REPEATED


@pytest.mark.parametrize("key", sorted(YES_NO))
def test_a_wall_of_the_unit_is_up(key: str) -> None:
    assert UNIT[key] == "yes"


def test_the_unit_starts_the_exporter_as_the_command_line_takes_it() -> None:
    given = accepted(shlex.split(UNIT["ExecStart"]))
    assert str(given["config"]) == "/etc/herdwatch/herdwatch.yaml"
    assert given["listen"] is None  # 127.0.0.1, or what the configuration says


def test_the_unit_reloads_restarts_and_runs_as_a_user_of_its_own() -> None:
    assert shlex.split(UNIT["ExecReload"]) == ["/bin/sh", "-c", "kill -HUP $MAINPID"]
    assert (UNIT["Restart"], UNIT["StartLimitIntervalSec"]) == ("on-failure", "0")
    assert "User" not in UNIT


def test_a_password_reaches_the_unit_as_a_file_and_is_not_in_it() -> None:
    name, path = UNIT["LoadCredential"].split(":")
    assert UNIT["SetCredential"] == rf"{name}:\n"
    assert f"/run/credentials/herdwatch-exporter.service/{name}" in GUIDE
    assert f"install -m 600 /dev/null {path}" in GUIDE


def paths() -> list[str]:
    commands = [*UNIT["ExecStart"].split(), *UNIT["ExecReload"].split(), *UNIT["LoadCredential"].split(":")]
    return sorted({word for word in commands if word.startswith("/")})


@pytest.mark.parametrize("path", paths())
def test_a_path_of_the_unit_is_explained_in_the_guide(path: str) -> None:
    assert re.search(rf"^\| `{re.escape(path)}` \| \w", GUIDE, re.MULTILINE)


@pytest.mark.parametrize("text", [text for language, text in pages.code_blocks(GUIDE) if language == "bash"])
def test_a_block_of_commands_of_the_guide_is_valid_bash(text: str) -> None:
    done = subprocess.run(["/bin/bash", "-n"], input=text, text=True, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_link_of_the_guide_leads_somewhere() -> None:
    assert [link for link in pages.links(GUIDE) if not (DEPLOY / link).exists()] == []


def copied() -> list[str]:
    """What the build takes from the checkout."""
    return [source for copy in of("COPY") if "--from" not in copy.value for source in copy.words[:-1]]


@pytest.mark.parametrize("source", copied())
def test_what_the_image_is_built_from_exists_and_reaches_the_build(source: str) -> None:
    assert (CHECKOUT / source).exists()
    assert not dockerfile.ignored(source, IGNORE)


@pytest.mark.parametrize(
    "path",
    [
        *(".env", ".git/config", ".tools/redis/usr/bin/redis-server", ".venv/bin/python", "my.yaml", "redis-password"),
        *("my-bundle/alerts/alertmanager.yml", "tests/conftest.py", "exporter/herdwatch/__pycache__/cli.pyc"),
    ],
)
def test_what_is_kept_in_a_checkout_beside_the_project_never_reaches_the_build(path: str) -> None:
    assert dockerfile.ignored(path, IGNORE)


def test_nothing_reaches_the_build_that_the_image_is_not_built_from(tracked: list[str]) -> None:
    sent = {name.partition("/")[0] for name in tracked if not dockerfile.ignored(name, IGNORE)}
    assert sent == {source.partition("/")[0] for source in copied()}


def test_the_image_starts_the_exporter_as_the_command_line_takes_it() -> None:
    given = accepted([*FINAL["ENTRYPOINT"].exec_form, *FINAL["CMD"].exec_form])
    assert str(given["config"]) == "/etc/herdwatch/herdwatch.yaml"
    assert given["listen"] == f"0.0.0.0:{PORT}"


def test_a_redis_given_instead_of_a_file_keeps_the_address() -> None:
    given = accepted([*FINAL["ENTRYPOINT"].exec_form, "--redis-url", "redis://cache:6379"])
    assert (given["config"], given["listen"]) == (None, f"0.0.0.0:{PORT}")


def test_the_image_exposes_and_watches_the_port_that_it_listens_on() -> None:
    assert FINAL["EXPOSE"].value == PORT
    python, flag, code = FINAL["HEALTHCHECK"].exec_form
    assert (Path(python).name, flag) == ("python", "-c")
    assert f"'127.0.0.1', {PORT}," in code


def test_the_image_does_not_run_as_root_and_says_so_with_a_number() -> None:
    user, _, group = FINAL["USER"].value.partition(":")
    assert int(user) > 0
    assert int(group) > 0
    order = [instruction.name for instruction in STAGES[-1]]
    assert order.index("USER") < order.index("ENTRYPOINT")


def test_the_last_stage_runs_nothing_and_takes_only_what_was_built() -> None:
    assert "RUN" not in FINAL
    assert FINAL["COPY"].value.startswith("--from=build ")
    assert len({instruction.words[0] for instruction in of("FROM")}) == 1


def test_every_installation_takes_the_versions_that_are_tested_together() -> None:
    installs = re.findall(r"\binstall [^&]*", " && ".join(instruction.value for instruction in of("RUN")))
    assert installs
    assert [one for one in installs if "-c constraints.txt" not in one] == []


def test_no_secret_is_baked_into_the_image() -> None:
    assert [one.value for one in (*of("ENV"), *of("COPY"), *of("RUN")) if SECRET.search(one.value)] == []
