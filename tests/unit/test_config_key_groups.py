"""herdwatch.yaml: what key groups may be, what a wrong one is told, and what counting them may cost."""

from __future__ import annotations

import pytest
from tests.unit.one_cache import CACHE, SOURCE, cache, check_told

from herdwatch.config import parse

WRONG = {
    "a list of groups": (cache("groups: [user:*]"), 4, "caches[0].groups", "must be a mapping of keys"),
    "a group with a line break": (
        cache(r'groups: {"a\nb": "x"}'),
        4,
        "caches[0].groups.'a\\nb'",
        "a label is 1 to 100",
    ),
    "a group without a name": (cache('groups: {"": "x"}'), 4, "caches[0].groups.", "a label is 1 to 100"),
    "a pattern that is empty": (cache('groups:\n  a: ""'), 5, "caches[0].groups.a", "a pattern is 1 to 200 printable"),
    "a pattern on two lines": (cache(r'groups: {a: "x\ny"}'), 4, "caches[0].groups.a", "on one line, as in user:*"),
    "a pattern that is too long": (cache(f"groups: {{a: {'x' * 201}}}"), 4, "caches[0].groups.a", "1 to 200"),
    "a pattern that is a number": (cache("groups: {a: 7}"), 4, "caches[0].groups.a", "must be text; put it in quotes"),
    "more than fifty groups": (
        cache("groups:\n" + "\n".join(f"  g{number}: x" for number in range(51))),
        4,
        "caches[0].groups",
        "51 groups; at most 50",
    ),
    "an exact group that is no group": (
        cache("groups: {users: a, orders: b}\nexact_groups:\n  - users\n  - user"),
        7,
        "caches[0].exact_groups[1]",
        "groups has no 'user'; there is: orders, users",
    ),
    "an exact group where there are no groups": (
        cache("exact_groups: [users]"),
        4,
        "caches[0].exact_groups[0]",
        "there is: none",
    ),
    "an exact group given twice": (
        cache("groups: {users: a}\nexact_groups: [users, users]"),
        5,
        "caches[0].exact_groups[1]",
        "'users' is given twice",
    ),
    "one exact group instead of a list": (
        cache("groups: {users: a}\nexact_groups: users"),
        5,
        "caches[0].exact_groups",
        "must be a list",
    ),
    "too few samples": (CACHE + "exporter:\n  samples: 99\n", 5, "exporter.samples", "or equal to 100"),
    "too many samples": (CACHE + "exporter:\n  samples: 10001\n", 5, "exporter.samples", "or equal to 10000"),
    "samples that are no whole number": (
        CACHE + "exporter:\n  samples: 1e3\n",
        5,
        "exporter.samples",
        "must be a whole number",
    ),
    "a budget without a unit": (CACHE + "exporter:\n  scan_budget: 10\n", 5, "exporter.scan_budget", "such as 15s"),
    "a budget of nothing": (CACHE + "exporter:\n  scan_budget: 0ms\n", 5, "exporter.scan_budget", "or equal to 0.001"),
    "a budget of more than half": (CACHE + "exporter:\n  scan_budget: 501ms\n", 5, "exporter.scan_budget", "to 0.5"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_value_is_told_with_its_line_its_path_and_what_would_be_right(sentence: str) -> None:
    check_told(WRONG[sentence])


def test_key_groups_are_a_name_and_a_pattern_each_and_fifty_are_not_too_many() -> None:
    given = {"users and admins": "user:*", "Gäste": r"[a-c]\\*?", **{f"g{number}": "x y" for number in range(48)}}
    lines = "".join(f"\n  {name}: '{pattern}'" for name, pattern in given.items())
    [one] = parse(cache(f"groups:{lines}\nexact_groups: [Gäste, g0]"), SOURCE).caches
    assert (one.groups, one.exact_groups) == (given, ("Gäste", "g0"))


@pytest.mark.parametrize(("samples", "budget"), [(100, "1ms"), (10_000, "500ms")])
def test_the_ends_of_the_ranges_belong_to_them(samples: int, budget: str) -> None:
    exporter = parse(CACHE + f"exporter:\n  samples: {samples}\n  scan_budget: {budget}\n", SOURCE).exporter
    assert (exporter.samples, exporter.scan_budget * 1000) == (samples, int(budget.removesuffix("ms")))
