"""What promtool says of a test that failed, as sentences with file and line, expected and got."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from textwrap import dedent, indent

from herdwatch.promtool.cases import Prepared
from herdwatch.promtool.faults import Row, Test
from herdwatch.promtool.silence import milliseconds

_NOISE = re.compile(r"\s*(Unit Testing:.*|FAILED:|SUCCESS|yaml: unmarshal errors:|)\s*")
_NAME = re.compile(r"    name: (.*),\s*")
_ASKED = re.compile(
    r"    (?:alertname: (?P<alert>.*), time: (?P<at>\w+),\s*"
    r"|expr: (?P<expr>\"(?:[^\"\\]|\\.)*\"), time: (?P<when>\w+),(?: err: (?P<error>.*))?\s*)"
)
_ANSWER = re.compile(r"\s*exp: ?(?P<expected>.*?),?\s*\n\s*got: ?(?P<got>.*)", re.DOTALL)
_SAMPLE = re.compile(r"\{alertname=(\"(?:[^\"\\]|\\.)*\")\} ([0-9.E+-]+)")
_LINE = re.compile(r"\s*line (\d+): (.*)")


@dataclass(slots=True)
class _Block:
    """What promtool says of one expectation, or without `asked` of anything else."""

    name: str
    asked: re.Match[str] | None
    said: list[str] = field(default_factory=list)


def read(prepared: Prepared, output: str) -> Iterator[str]:
    """A problem per expectation that was not met, and per line that says something else; each starts with file:line."""
    for block in _blocks(output):
        if block.asked is None:
            yield from (_other(prepared, line) for line in block.said)
        elif (test := prepared.watch.get(_unquoted(block.asked["expr"]))) is not None and not block.asked["error"]:
            yield from _unmentioned(prepared, test, block.said)
        else:
            yield _unmet(prepared, block.name, block.asked, "\n".join(block.said))


def _blocks(output: str) -> Iterator[_Block]:
    block, name = _Block("", None), ""
    for line in output.splitlines():
        if named := _NAME.fullmatch(line):
            name = named[1]
        elif asked := _ASKED.fullmatch(line):
            yield block
            block, name = _Block(name, asked), ""
        elif not _NOISE.fullmatch(line):
            # Whatever stands less deep than an answer is not part of one.
            if block.asked is not None and not line.startswith("     "):
                yield block
                block = _Block("", None)
            block.said.append(line)
    yield block


def _unmet(prepared: Prepared, name: str, asked: re.Match[str], said: str) -> str:
    alert, query, clock = asked["alert"], _unquoted(asked["expr"]), asked["at"] or asked["when"]
    test, row = _place(prepared, name, alert, query, clock)
    subject = f"the alert {alert}" if alert is not None else f"the query {' '.join(query.split())}"
    where = f"{prepared.file.shown}:{row.line if row else test.line}: at {clock} {subject}"
    origin = f"test {test.name!r} at line {test.line}" if test.name else f"test at line {test.line}"
    if asked["error"]:
        return f"{where} cannot be evaluated: {asked['error']} ({origin})"
    answer = _ANSWER.fullmatch(said)
    if answer is None:
        return f"{where} is not as expected ({origin})\n{said}"
    expected, got = _told(answer["expected"]), _told(answer["got"])
    return f"{where} is not as expected ({origin})\n  expected:\n{expected}\n  got:\n{got}"


def _told(text: str) -> str:
    """One answer: promtool's own words on each alert or sample, without its brackets."""
    if text.startswith("["):
        lines = [line for line in text[1:].rpartition("]")[0].splitlines() if line.strip()]
        text = dedent("\n".join(lines)) if lines else "no alert"
    else:
        text = "no sample" if text.strip() == "nil" else re.sub(r"(?<=[0-9]), (?=[\w{])", "\n", text.strip())
    return indent(text, "    ")


def _place(prepared: Prepared, name: str, alert: str | None, query: str, clock: str) -> tuple[Test, Row | None]:
    for test in prepared.tests:
        for row in test.rows if not name or name == test.name or len(prepared.tests) == 1 else ():
            same = row.alert == alert if alert is not None else row.expr == query
            if same and milliseconds(row.eval_time) == milliseconds(clock):
                return test, row
    return prepared.tests[0], None


def _unmentioned(prepared: Prepared, test: Test, said: list[str]) -> Iterator[str]:
    for alert, seconds in _SAMPLE.findall("\n".join(said).partition("got:")[2]):
        at = _clock(float(seconds))
        yield (
            f"{prepared.file.shown}:{test.line}: at {at} the alert {_unquoted(alert)} begins to fire, "
            "and no row of the test mentions it; expect it in alert_rule_test, or ask for it by a query of ALERTS"
        )


def _other(prepared: Prepared, said: str) -> str:
    """A line that belongs to no expectation; a line number in it is that of the text that promtool was given."""
    if found := _LINE.fullmatch(said):
        line = prepared.lines().get(int(found[1]), prepared.tests[0].line)
        return f"{prepared.file.shown}:{line}: {found[2]}"
    if any(said.startswith(f"{rules.path}:") for rules in prepared.file.rules):
        shown = next(rules for rules in prepared.file.rules if said.startswith(f"{rules.path}:"))
        return said.replace(str(shown.path), shown.shown, 1)
    return f"{prepared.file.shown}:{prepared.tests[0].line}: {said.strip()}"


def _unquoted(text: str | None) -> str:
    """A text as Go quotes it; Python's literals have the same escapes."""
    try:
        return str(ast.literal_eval(text)) if text else ""
    except (ValueError, SyntaxError):
        return text or ""


def _clock(seconds: float) -> str:
    """Seconds as test files write them: 10m20s."""
    hours, rest = divmod(round(seconds), 3600)
    parts = zip((hours, rest // 60, rest % 60), "hms", strict=True)
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
