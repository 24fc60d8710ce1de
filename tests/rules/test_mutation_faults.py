"""promtool that hangs or breaks: a run ends, leaves nothing behind, and what proves nothing is no kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.waiting import until

from herdwatch import tools
from herdwatch.errors import CheckFailed, ToolError
from herdwatch.proof.mutation import Request, run
from herdwatch.proof.mutation.session import Verdict

RULES = """\
groups:
  - name: g
    rules:
      - {alert: High, expr: x > 5, labels: {severity: critical}}
"""
TESTS = """\
rule_files: [rules.yml]
evaluation_interval: 15s
tests:
  - name: high
    interval: 10s
    input_series: [{series: x, values: 6x9}]
    promql_expr_test:
      - {expr: count(ALERTS), eval_time: 1m, exp_samples: [{labels: '{}', value: 1}]}
"""
Replace = Callable[[str], None]


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "High.test.yml").write_text(TESTS)
    return Request([tmp_path / "rules.yml"], [str(tmp_path / "High.test.yml")], deadline=10)


@pytest.fixture
def replace_promtool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replace:
    """A promtool that does something else where its rules say `x < 5` or hold what is only written anew."""
    real = tools.find("promtool")

    def replace(script: str) -> None:
        path = tmp_path / "promtool"
        path.write_text(f'#!/bin/sh\nREAL="{real.path}"\nFOLDER=$(dirname "$3")\n{script}\nexec "$REAL" "$@"\n')
        path.chmod(0o755)
        fake = tools.Tool("promtool", path, real.version, "a test", real.env, real.cwd)
        monkeypatch.setattr(tools, "find", lambda _: fake)

    return replace


def test_a_mutant_that_runs_over_the_deadline_is_killed_and_called_so(
    request_: Request, replace_promtool: Replace
) -> None:
    replace_promtool('[ "$1" = test ] && grep -q "x < 5" "$FOLDER"/*.rules.yml && exec sleep 600')
    verdicts = {result.mutant.id: result.verdict for result in run(request_).results}
    assert verdicts["High/comparison/-/<"] is Verdict.TIMED_OUT
    assert verdicts["High/rule/removed"] is Verdict.KILLED


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("severity: critical", '"a b": critical', 'group "g", rule 1, "High": invalid label name: a b'),
        ("x > 5", "x > 5, for: soon", "not a valid duration string: "),
    ],
)
def test_rules_that_promtool_refuses_are_told_with_their_own_file(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.yml").write_text(RULES.replace(right, wrong))
    with pytest.raises(CheckFailed) as refused:
        run(replace(request_, rules=[Path("rules.yml")]))
    assert str(refused.value).startswith("rules.yml:")
    assert told in str(refused.value)


def test_an_identity_that_is_killed_ends_the_run(request_: Request, replace_promtool: Replace) -> None:
    # Only what is written anew is quoted.
    replace_promtool("""[ "$1" = test ] && grep -q '"x > 5"' "$FOLDER"/*.rules.yml && echo FAILED: && exit 1""")
    with pytest.raises(CheckFailed, match=r"rules\.yml:4: High fails .*High\.test\.yml:4: 'high' although it was only"):
        run(request_)


def test_a_promtool_that_breaks_kills_nothing(request_: Request, replace_promtool: Replace) -> None:
    replace_promtool('[ "$1" = test ] && grep -q "x < 5" "$FOLDER"/*.rules.yml && echo no space left && exit 2')
    with pytest.raises(ToolError, match=r"promtool ended with exit code 2: no space left"):
        run(request_)


PROGRAM = """
import sys
from pathlib import Path
from herdwatch import tools
from herdwatch.proof.mutation import Request, run
tools.find = lambda name: tools.Tool("promtool", Path(sys.argv[1]), "2.42.0", "a test")
run(Request([Path("rules.yml")], ["High.test.yml"], deadline=600))
"""


@pytest.mark.usefixtures("request_")
def test_an_interrupt_leaves_nothing_running_and_no_files(tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    hanging.write_text(
        f'#!/bin/sh\necho $$ > "{tmp_path}/pid.new"\nmv "{tmp_path}/pid.new" "{tmp_path}/pid"\nexec sleep 600\n'
    )
    hanging.chmod(0o755)
    (tmp_path / "files").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(hanging)],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "files")},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: (tmp_path / "pid").exists() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert said.rstrip().endswith("KeyboardInterrupt")
    until(lambda: not _lives(int((tmp_path / "pid").read_text())))
    assert list((tmp_path / "files").iterdir()) == []


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
