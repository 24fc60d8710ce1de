"""The pytest plugin in a project that is not ours: what it collects, runs and says, each in a pytest of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.waiting import until

from herdwatch import tools
from herdwatch.errors import ToolError
from herdwatch.promtool import Promtool, Result
from herdwatch.promtool.ahead import Ahead

RULES = """groups:
  - name: nodes
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
      - alert: NodeDown
        expr: up == 0
        for: 1m
        annotations: {summary: "{{ $labels.instance }} is gone"}
      - alert: Watchdog
        expr: vector(1)
"""
TESTS = """rule_files: [../rules/*.yml]
evaluation_interval: 15s
tests:
  - name: a node that is gone for a minute is told
    interval: 15s
    input_series:
      - {series: 'up{job="node",instance="a"}', values: 1 0x19}
    alert_rule_test:
      - {eval_time: 1m, alertname: NodeDown}
      - eval_time: 2m
        alertname: NodeDown
        exp_alerts:
          - exp_labels: {job: node, instance: a}
            exp_annotations: {summary: a is gone}
  - name: targets are summed by job::even twice
    interval: 15s
    input_series:
      - {series: 'up{job="node",instance="a"}', values: 1x9}
      - {series: 'up{job="node",instance="b"}', values: 1x9}
    promql_expr_test:
      - {expr: "job:up:sum", eval_time: 1m, exp_samples: [{labels: 'job:up:sum{job="node"}', value: 2}]}
"""
INI = """[pytest]
promtool_paths = checks/*.yml
promtool_always_firing = Watchdog
"""
BARE = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
"""With no other plugin, and quicker for it."""

FIRST, SECOND = "a node that is gone for a minute is told", "targets are summed by job: :even twice"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Someone else's rules and tests, and files that are neither."""
    for name, text in {
        "rules/nodes.yml": RULES,
        "checks/nodes.yml": TESTS,
        "other/docker-compose.yml": "services: {}\n",
        "pytest.ini": INI,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def command(*arguments: str | Path, promtool: Path | None = None) -> list[str]:
    plugin = ("-p", "herdwatch.promtool.plugin", f"--promtool={promtool or tools.find('promtool').path}")
    return [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, (*plugin, *arguments))]


def run(project: Path, *arguments: str | Path, promtool: Path | None = None) -> tuple[int, str]:
    """Exit code and output of pytest in a project."""
    done = subprocess.run(
        command(*arguments, promtool=promtool),
        cwd=project,
        env=BARE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def spoil(project: Path, *changes: tuple[str, str], name: str = "checks/nodes.yml") -> None:
    text = (project / name).read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (project / name).write_text(text)


def fake(folder: Path, code: str) -> Path:
    """A promtool that does what `code` says in place of running a test; `text` is the test file."""
    path = folder / "promtool"
    head = "import os, pathlib, sys, time\nif '--version' in sys.argv: sys.exit(print('promtool, version 2.42.0'))\n"
    path.write_text(f"#!{sys.executable} -IS\n{head}text = pathlib.Path(sys.argv[-1]).read_text()\n{code}\n")
    path.chmod(0o755)
    return path


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_test_of_the_named_files_is_an_item_of_its_name_and_nothing_else_is(project: Path) -> None:
    code, output = run(project, "-v")
    assert code == 0
    assert f"checks/nodes.yml::{FIRST} PASSED" in output
    assert f"checks/nodes.yml::{SECOND} PASSED" in output
    assert "2 passed" in output


def test_items_are_listed_without_being_run(project: Path) -> None:
    code, output = run(project, "--collect-only", "-q", promtool=fake(project, "sys.exit(1)"))
    assert code == 0
    assert output.splitlines()[:2] == [f"checks/nodes.yml::{FIRST}", f"checks/nodes.yml::{SECOND}"]


@pytest.mark.parametrize(
    "arguments",
    [("-k", "gone"), (f"checks/nodes.yml::{FIRST}",), ("--deselect", f"checks/nodes.yml::{SECOND}")],
    ids=["by a word", "by its node id", "by leaving out the other"],
)
def test_one_item_can_be_chosen(project: Path, arguments: tuple[str, ...]) -> None:
    code, output = run(project, "-v", *arguments)
    assert code == 0
    assert FIRST in output
    assert "1 passed" in output


def test_without_paths_nothing_is_collected(project: Path) -> None:
    spoil(project, ("promtool_paths = checks/*.yml\n", ""), name="pytest.ini")
    code, output = run(project)
    assert (code, "no tests ran" in output) == (5, True)


def test_a_failure_says_what_was_expected_and_what_came_with_file_and_line(project: Path) -> None:
    spoil(project, ("a is gone", "b is gone"), ("value: 2", "value: 3"))
    code, output = run(project)
    assert code == 1
    assert (
        f"""checks/nodes.yml:10: at 2m the alert NodeDown is not as expected (test {FIRST!r} at line 4)
  expected:
    0:
      Labels:{{alertname="NodeDown", instance="a", job="node"}}
      Annotations:{{summary="b is gone"}}
  got:
    0:
      Labels:{{alertname="NodeDown", instance="a", job="node"}}
      Annotations:{{summary="a is gone"}}
"""
        in output
    )
    assert (
        """checks/nodes.yml:21: at 1m the query job:up:sum is not as expected (test 'targets are summed by job::even \
twice' at line 15)
  expected:
    {__name__="job:up:sum", job="node"} 3E+00
  got:
    {__name__="job:up:sum", job="node"} 2E+00
"""
        in output
    )
    assert "2 failed" in output
    assert "Traceback" not in output
    assert ".py" not in output.partition("FAILURES")[2]


def test_an_alert_that_fires_unmentioned_fails_unless_the_ini_file_names_it(project: Path) -> None:
    spoil(project, ("promtool_always_firing = Watchdog\n", ""), name="pytest.ini")
    code, output = run(project)
    assert code == 1
    failures = output.partition("short test summary info")[0]  # which says it once more where CI is set
    assert failures.count("at 0s the alert Watchdog begins to fire, and no row of the test mentions it") == 2


SPOILED = {
    "rules": ("rules/*.yml", "rulez/*.yml", "1: rule_files: ../rulez/*.yml matches no file"),
    "empty": (TESTS.partition("tests:")[2], " []\n", "3: has no tests"),
    "shape": ("[../rules/*.yml]", "../rules/*.yml", "1: names no rule_files"),
    "yaml": ("tests:\n", "tests: [\n", "4: not valid YAML"),
}


def test_a_file_that_tests_nothing_is_an_error_in_one_sentence(project: Path) -> None:
    for name, (old, new, _) in SPOILED.items():
        (project / f"checks/{name}.yml").write_text(TESTS.replace(old, new))
    code, output = run(project)
    assert code == pytest.ExitCode.INTERRUPTED
    for name, (_, _, sentence) in SPOILED.items():
        assert f"\nchecks/{name}.yml:{sentence}" in output
    assert "4 errors" in output
    assert "Traceback" not in output


def test_tests_without_a_name_or_with_the_same_are_told_apart_by_their_line(project: Path) -> None:
    spoil(project, ("name: a node that is gone for a minute is told\n    ", ""), ("name: targets", "name: &a targets"))
    spoil(project, ("tests:\n", f"tests:\n  - {{name: '{SECOND}', alert_rule_test: [{{alertname: NodeDown}}]}}\n"))
    code, output = run(project, "--collect-only", "-q")
    assert code == 0
    names = [line.partition("yml::")[2] for line in output.splitlines()[:3]]
    assert names == [SECOND, "the test at line 5", f"{SECOND} (line 15)"]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("promtool_paths = checks/*.yaml", "promtool_paths: 'checks/*.yaml' matches no file below "),
        ("promtool_paths = /checks/*.yml", "promtool_paths: '/checks/*.yml' is no pattern relative to "),
        ("promtool_timeout = soon", "promtool_timeout: 'soon' is no number of seconds"),
        ("promtool_timeout = -1", "promtool_timeout: '-1' is no number of seconds"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(project: Path, line: str, sentence: str) -> None:
    (project / "pytest.ini").write_text(f"[pytest]\n{line}\n")
    code, output = run(project)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert output.startswith(f"ERROR: {sentence}")


def test_a_promtool_that_cannot_be_used_is_refused(project: Path) -> None:
    code, output = run(project, promtool=project / "none")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert output.startswith(f"ERROR: --promtool: promtool ({project / 'none'}) does not answer --version")


def test_a_promtool_that_hangs_fails_the_test_after_its_timeout(project: Path) -> None:
    (project / "pytest.ini").write_text(f"{INI}promtool_timeout = 0.2\n")
    code, output = run(project, "-k", "gone", promtool=fake(project, "time.sleep(100)"))
    assert code == 1
    assert f"{project / 'promtool'} did not end within 0.2 s" in output
    assert "Traceback" not in output


SLEEPS = """if "summed" in text:
    pathlib.Path(__file__).with_name("pid.part").write_text(str(os.getpid()))
    pathlib.Path(__file__).with_name("pid.part").rename(pathlib.Path(__file__).with_name("pid"))
    time.sleep(300)
"""
FAILS = """else:
    while not pathlib.Path(__file__).with_name("pid").exists(): time.sleep(0.02)
    sys.exit("wrong")
"""


def test_nothing_is_left_running_when_the_first_failure_ends_the_session(project: Path) -> None:
    # With one processor the second test has not begun: then it is never started.
    fails = FAILS if len(os.sched_getaffinity(0)) > 1 else 'else: sys.exit("wrong")\n'
    code, output = run(project, "-x", promtool=fake(project, SLEEPS + fails))
    assert code == 1
    assert "1 failed" in output
    if (project / "pid").exists():
        assert not alive(int((project / "pid").read_text()))


def test_nothing_is_left_running_when_the_session_is_interrupted(project: Path) -> None:
    begun = command("-k", "summed", promtool=fake(project, SLEEPS))
    with subprocess.Popen(begun, cwd=project, env=BARE, stdout=subprocess.PIPE, text=True) as session:
        until((project / "pid").exists)
        session.send_signal(signal.SIGINT)
        output, _ = session.communicate(timeout=60)
    assert session.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    assert not alive(int((project / "pid").read_text()))


def test_rule_tests_do_not_run_beside_tests_of_another_kind(project: Path) -> None:
    (project / "checks/nodes.yml").rename(project / "checks/z.yml")
    (project / "checks/a.yml").write_text(TESTS.replace("::even twice", ""))
    (project / "checks/test_b.py").write_text(
        "from pathlib import Path\nimport time\n\n\n"
        "def test_that_measures():\n    time.sleep(0.5)\n    assert len(list(Path('begun').iterdir())) == 2\n"
    )
    (project / "begun").mkdir()
    note = "(pathlib.Path(__file__).parent / 'begun' / str(os.getpid())).touch()"
    code, output = run(project, "checks", promtool=fake(project, note))
    assert code == 0, output
    assert "5 passed" in output
    assert len(list((project / "begun").iterdir())) == 4


def test_jobs_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2)

    def meet(job: str, _: Promtool) -> Result:
        return Result(meeting.wait(60) + 1, (job,))

    ahead = Ahead(meet, timeout=60, workers=2)
    try:
        assert ahead.result("a", ["b"]).problems == ("a",)
        assert ahead.result("b", []).problems == ("b",)
    finally:
        ahead.close()


def test_a_job_that_never_ends_is_told() -> None:
    never = threading.Event()

    def wait(_: str, __: Promtool) -> Result:
        never.wait(60)
        return Result(1)

    ahead = Ahead(wait, timeout=-4.9, workers=1)
    try:
        with pytest.raises(ToolError, match=r"^no promtool became free and ended within 0\.2 s$"):
            ahead.result("a", [])
    finally:
        never.set()
        ahead.close()
