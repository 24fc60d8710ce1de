"""Every command line of every runbook page, taken out of the page and run by bash against real servers.

The stack is well, so that a line ends with 0 and prints something. A line that changes something runs against servers
of its own, which are in the trouble that the page speaks of. What is otherwise stands in a table, with its reason.
"""

from __future__ import annotations

import re
import time
from contextlib import nullcontext

import pytest
from tests.operations.runbook_lines import Done, Line, inline, lines, run, run_endless
from tests.operations.runbook_stack import GONE, REPLICA, Arrangement, Place, Stack
from tests.waiting import SECONDS

from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.pages import code_blocks
from herdwatch.stack import Supervisor

PAGES = {path.stem: path.read_text() for path in sorted((bundle_root() / "runbooks").glob("*.md"))}
LINES = {page: list(lines(page, text)) for page, text in PAGES.items()}
EVERY = {line.text for found in LINES.values() for line in found}
NEEDS = {
    "verify": set(PAGES) - {"HerdwatchWatchdog", "README"},
    "warm .*--dry-run": {"CacheRestarted", "CacheStampede", "CacheKeysLost", "CacheHitRateLow", "CacheWarmupStalled"},
    "promote .*--plan": {"CacheDown", "CacheLoading", "CacheRestarted", "CacheRestartLoop", "CacheReplicaMissing"},
    "promote .*--crash .*--yes": {"CacheDown", "CacheLoading", "CacheRestarted"},
    "hotkeys": {"CacheEvicting", "CacheRestarted", "HighCoalescingRate"},
}
"""Which pages must tell people to run which verb."""
VERBS = {need.split()[0] for need in NEEDS}

NOT_RUN = {
    "journalctl -u redis-server -n 100 --no-pager": "the journal of a host on which Redis is a service",
    "journalctl -k --since -1h --no-pager": "the kernel's log needs rights that a test has not",
    "systemctl daemon-reload": "it changes the machine that the tests run on",
    "kubectl logs POD --previous --tail=100": "there is no cluster",
    "kubectl describe pod POD": "there is no cluster",
    "docker logs --tail 100 NAME": "there is no container",
    "docker update --restart=no NAME": "there is no container",
    "redis-cli PING": "from the replica's host, at an address that the sentence leaves to the reader",
    "herdwatch promote --cache NAME --sentinel HOST:PORT --master NAME": "a form to fill in; test_sentinel runs it",
    "herdwatch warm --keys keys.txt": "what a file of keys is for; test_warm_command runs it",
}
"""Commands in the sentences of pages; those of a block are all run."""

EXITS = {
    "--allow dead --yes": (1, "is promoted, and", "the page says so: the primary that loads is a primary too"),
}
"""With what a line ends that does not end with 0, what it says then, and why."""
SILENT = {
    "amtool alert add": "it says nothing when it has succeeded",
    "SHUTDOWN NOSAVE": "who could answer is gone",
}
ENDLESS = {"--stat -i 5": "a line every five seconds until Ctrl-C"}
ELSEWHERE = {
    "cache_failure{": GONE,
    "cache_up == 0": GONE,
    "alertstate='firing'": GONE,
    "cache_primary{cache='$CACHE'} == 0": REPLICA,
}
"""What a cache that is well has not: the cache that the line is asked about instead."""

OWN: dict[str, Arrangement] = {
    r"--crash .*--allow dead --demote": Stack.empty,
    r"--crash .*--allow dead": Stack.loading,
    r"--crash .*--demote": Stack.promoted,
    r"--crash": Stack.dead,
    r"promote .*--yes|REPLICAOF|masterauth": Stack.well,
    r"SCRIPT KILL": Stack.hung,
    r"CLIENT KILL": Stack.leaking,
    r"HDEL": Stack.littered,
    r"CONFIG SET|ACL SETUSER|HSET|UNLINK|--pattern|SHUTDOWN|FLUSH": Stack.alone,
}
"""Which servers a line has for itself; the first that matches."""

LATER = re.compile(r"^(?:promtool|amtool alert query|curl)")
"""What tells of what Prometheus has scraped, which takes it some rounds."""
ERROR = re.compile(
    r"^\(error\)|^-?(?:ERR|WRONGTYPE|WRONGPASS|NO[A-Z]+|READONLY|LOADING|OOM|MISCONF|BUSY|MASTERDOWN|UNKILLABLE) "
    r"|Could not connect|Connection refused|command not found|unbound variable|Traceback|exit code [^0]",
    re.MULTILINE,
)
"""Older redis-clis end with 0 whatever Redis has answered."""
every_page = pytest.mark.parametrize("page", [page for page, found in LINES.items() if found])


@pytest.fixture(scope="module")
def stack(supervisor: Supervisor) -> Stack:
    return Stack(supervisor)


@pytest.fixture(scope="module")
def ran() -> set[tuple[str, ...]]:
    """Lines that have been run; another page that has the same one, of the same variables, need not run it again."""
    return set()


def has(line: Line, table: dict[str, object]) -> str:
    """The entry of a table that is about this line, or an empty text."""
    return next((part for part in table if part in line.text), "")


@every_page
def test_every_command_of_a_page_does_what_the_page_says(page: str, stack: Stack, ran: set[tuple[str, ...]]) -> None:
    check_all([line for line in LINES[page] if not LATER.match(line.text)], stack, ran)


@every_page
def test_every_question_to_prometheus_has_an_answer(page: str, stack: Stack, ran: set[tuple[str, ...]]) -> None:
    check_all([line for line in LINES[page] if LATER.match(line.text)], stack, ran)


def check_all(found: list[Line], stack: Stack, ran: set[tuple[str, ...]]) -> None:
    for line in found:
        if line.identity not in ran:
            ran.add(line.identity)
            check(line, stack)


def check(line: Line, stack: Stack) -> None:
    arrange = next((made for pattern, made in OWN.items() if re.search(pattern, line.text)), None)
    own = stack.for_itself(arrange, spent="--plan" not in line.text) if arrange else nullcontext(stack.place)
    with own as place:
        done = outcome(line, place, stack)
    expected, says, _ = EXITS[has(line, EXITS)] if has(line, EXITS) else (0, "", "")
    told = f"{line.page}: {line.text}\nended with {done.code} and said:\n{done.out}{done.err}"
    assert (done.code, says in done.err) == (expected, True), told
    assert not ERROR.search(done.out + done.err), told
    assert "herdwatch" in line.text or not done.err, told
    assert bool((done.out + done.err).strip()) is not bool(has(line, SILENT)), told


def outcome(line: Line, place: Place, stack: Stack) -> Done:
    """What came of a line, which is asked again for as long as it may have to wait for a scrape."""
    other = has(line, ELSEWHERE)
    values = {**place.values, **({"CACHE": ELSEWHERE[other]} if other else {})}
    if has(line, ENDLESS):
        return run_endless(line, values, env=stack.env, cwd=place.folder)
    deadline = time.monotonic() + SECONDS
    while True:
        done = run(line, values, env=stack.env, cwd=place.folder)
        waits = LATER.match(line.text) and not has(line, SILENT) and not done.out.strip()
        if not waits or time.monotonic() > deadline:
            return done
        time.sleep(0.5)


def test_a_command_in_a_sentence_that_is_complete_works_too(stack: Stack) -> None:
    done = run(Line("", "herdwatch acl", ()), {}, env=stack.env, cwd=stack.place.folder)
    assert (done.code, done.err) == (0, "")
    assert "ACL SETUSER" in done.out


def test_what_is_not_run_stands_in_a_page_and_whatever_stands_there_is_listed() -> None:
    complete = {"herdwatch acl"}
    names = {f"herdwatch {verb}" for verb in VERBS}
    assert {text for page in PAGES.values() for text in inline(page)} - complete - names == set(NOT_RUN)


@pytest.mark.parametrize("table", [EXITS, SILENT, ENDLESS, ELSEWHERE], ids=["exits", "silent", "endless", "elsewhere"])
def test_every_exception_is_about_a_line_that_some_page_has(table: dict[str, object]) -> None:
    assert [part for part in table if not any(part in text for text in EVERY)] == []


@pytest.mark.parametrize("need", NEEDS)
def test_every_page_that_needs_a_verb_has_a_line_with_it(need: str) -> None:
    pattern = re.compile(f"^herdwatch {need}")
    assert NEEDS[need] <= {page for page, found in LINES.items() if any(pattern.search(line.text) for line in found)}


@pytest.mark.parametrize("page", sorted(NEEDS["warm .*--dry-run"]))
def test_a_warm_up_is_tried_dry_before_it_is_run(page: str) -> None:
    first = next(line.text for line in LINES[page] if line.text.startswith("herdwatch warm"))
    assert first.endswith("--dry-run")


def test_the_example_of_a_screen_has_the_questions_of_a_real_one(stack: Stack) -> None:
    texts = [text for language, text in code_blocks(PAGES["CacheRestarted"]) if language == "text"]
    (example,) = [text for text in texts if text.startswith("cache ")]
    line = next(line for line in LINES["CacheRestarted"] if "herdwatch verify" in line.text)
    done = outcome(line, stack.place, stack)
    assert questions(example) == questions(done.out) != []


def questions(screen: str) -> list[str]:
    return [line[3:].split("  ")[0] for line in screen.splitlines()[1:]]
