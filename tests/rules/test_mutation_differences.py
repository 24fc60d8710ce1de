"""Which mutants make a difference in a case, whatever its expectations look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdwatch import tools
from herdwatch.proof.mutation import rulefile, suite
from herdwatch.proof.mutation.differences import same_in
from herdwatch.proof.mutation.mutants import mutants
from herdwatch.proof.mutation.plan import Rulebook
from herdwatch.proof.mutation.trials import Trials

RULES = """\
groups:
  - name: g
    rules:
      - {record: doubled, expr: x * 2}
      - {alert: High, expr: max by (a) (doubled) > 5}
"""
TESTS = """\
rule_files: [rules.yml]
evaluation_interval: 5s
tests:
  - interval: 7s
    input_series: [{series: 'x{a="1",b="1"}', values: %s}, {series: 'x{a="1",b="2"}', values: 0x99}]
    promql_expr_test: [{expr: ALERTS, eval_time: 2m}]
"""


@pytest.mark.parametrize(
    ("peak", "same"),
    [
        ("1.2", {"1/x1.5", "1/x0.5", "-/>=", "0/sum"}),
        ("2", {"1/x1.5", "-/>=", "0/sum"}),
        ("2.5", {"1/x1.5", "0/sum"}),
        ("3", {"1/x0.5", "-/>=", "0/sum"}),
        ("4", {"1/x1.5", "1/x0.5", "-/>=", "0/sum"}),
    ],
)
def test_a_mutant_makes_a_difference_where_one_evaluation_differs(tmp_path: Path, peak: str, same: set[str]) -> None:
    # All of it lies far below the threshold but for one sample, which two evaluations see.
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "x.test.yml").write_text(TESTS % f"1x6 {peak} 1x99")
    file = rulefile.load(tmp_path / "rules.yml")
    [case] = suite.load(tmp_path / "x.test.yml", [file.path], lambda _: file)
    asked = {
        f"High/{kind}" for kind in ("threshold/1/x1.5", "threshold/1/x0.5", "comparison/-/>=", "aggregation/0/sum")
    }
    made = [one for one in mutants(file, file.rules[1]) if one.id in asked]
    with Trials(tools.find("promtool"), deadline=60) as trials:
        found = {one.id for one in same_in(trials, case, Rulebook.of(case), made)}
    assert {id.split("/", 2)[2] for id in found} == same
