"""The image without an engine: the build steps of deploy/Dockerfile, carried out in a folder, and what comes of them.

What the registry would send is copied from the packages of this environment: exactly what the extra declares, so that
anything undeclared is missing. Paths of the image are paths below the folder.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.packaging import dockerfile
from tests.packaging.programs import CHECKOUT, run

from herdwatch.stack import RedisServer, Supervisor, free_port, http

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
DECLARED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["exporter"]]
BUILD, FINAL = dockerfile.parse((CHECKOUT / "deploy/Dockerfile").read_text())
IGNORE = dockerfile.rules((CHECKOUT / ".dockerignore").read_text())
IN_THE_IMAGE = re.compile(r"(?<![\w.$}])/(?=(?:src|opt|dist)\b)")
ENTRYPOINT = next(one for one in FINAL if one.name == "ENTRYPOINT").exec_form
HEALTHCHECK = next(one for one in FINAL if one.name == "HEALTHCHECK").exec_form


def needed(requirement: str) -> set[str]:
    """The names of the distributions that a requirement brings, itself included."""
    found: set[str] = set()
    open_ones = [Requirement(requirement)]
    while open_ones:
        wanted = open_ones.pop()
        found.add(canonicalize_name(wanted.name))
        for one in map(Requirement, distribution(wanted.name).requires or ()):
            applies = one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in wanted.extras or "-")
            if applies and (one.extras or canonicalize_name(one.name) not in found):
                open_ones.append(one)
    return found


def furnish(venv: Path, *requirements: str) -> None:
    """Put copies of what `requirements` need into a virtual environment, and nothing else."""
    [site] = venv.glob("lib/python*/site-packages")
    for old in site.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    for name in set().union(*map(needed, requirements)):
        files = distribution(name).files or ()
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            origin = Path(str(distribution(name).locate_file(top)))
            copy = shutil.copytree if origin.is_dir() else shutil.copy
            if origin.exists():
                copy(origin, site / top)


@pytest.fixture(scope="module")
def image(tracked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the build stage was carried out."""
    root = tmp_path_factory.mktemp("image")
    where = root / "src"
    where.mkdir()
    python = root / "programs" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    env = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    for instruction in BUILD:
        if instruction.name == "COPY":
            *sources, target = instruction.words
            copy(sources, where / target, tracked)
        elif instruction.name == "RUN":
            command = IN_THE_IMAGE.sub(f"{root}/", instruction.value)
            done = run("/bin/sh", "-c", command, cwd=where, env=env)
            assert done.returncode == 0, command + done.stdout + done.stderr
            if "-m venv" in command:
                furnish(root / "opt/build", "pip", "hatchling")
                furnish(root / "opt/herdwatch", *DECLARED)
    return root


def copy(sources: list[str], target: Path, tracked: list[str]) -> None:
    """As COPY does: files into the folder, the content of a folder into it."""
    for source in sources:
        for name in tracked:
            if (name == source or name.startswith(f"{source}/")) and not dockerfile.ignored(name, IGNORE):
                to = target / (Path(name).relative_to(source) if name != source else Path(name).name)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(CHECKOUT / name, to)


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as entered:
        yield entered


def test_the_image_s_wheel_is_that_of_the_checkout(image: Path, content: set[str]) -> None:
    [made] = (image / "dist").glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        assert {name for name in archive.namelist() if not name.endswith("/")} == content


def test_the_image_publishes_a_cache_and_its_health_is_that_of_the_exporter(
    image: Path, supervisor: Supervisor, tmp_path: Path
) -> None:
    redis, port = RedisServer(supervisor), free_port()
    command = [IN_THE_IMAGE.sub(f"{image}/", word).replace("0.0.0.0:9878", f"127.0.0.1:{port}") for word in ENTRYPOINT]
    health = [IN_THE_IMAGE.sub(f"{image}/", word).replace("9878", str(port), 1) for word in HEALTHCHECK]
    assert run(*health, cwd=tmp_path).returncode == 1
    exporter = supervisor.start("exporter", [*command, "--redis-url", redis.url], cwd=tmp_path)
    exporter.wait_until(lambda: http.answers(f"http://127.0.0.1:{port}/-/ready"))

    done = run(*health, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "\ncache_up 1.0\n" in http.get(f"http://127.0.0.1:{port}/metrics")[1]
    assert "CacheRestarted" in http.get(f"http://127.0.0.1:{port}/runbooks/")[1]
    exporter.stop()
    supervisor.forget(exporter)
    assert run(*health, cwd=tmp_path).returncode == 1


def test_the_image_without_a_configuration_says_what_it_lacks(image: Path, tmp_path: Path) -> None:
    command = [IN_THE_IMAGE.sub(f"{image}/", word) for word in ENTRYPOINT]
    done = run(*command, "--config", "/etc/herdwatch/none.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("herdwatch: /etc/herdwatch/none.yaml: no such file")
