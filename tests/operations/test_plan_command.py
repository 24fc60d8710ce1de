"""`herdwatch plan` as people type it: the table, JSON, the exponent of a journal, --write, and what can be wrong."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import typer

import herdwatch.cli.planning
from herdwatch import cli, journals
from herdwatch.guard import SyncGuard
from herdwatch.guard.journal import JournalFile
from herdwatch.guard.testing import SyncMemoryStore

VERB = herdwatch.cli.planning.plan
QUESTION = ("--peak-rps", 50_000, "--db-capacity", 2500, "--keys", 2_000_000)
SMALL = ("--peak-rps", 50_000, "--db-capacity", 2500, "--keys", 5000)
CONFIG = """\
# Ours.
caches:
  - name: users   # the first
    url: redis://127.0.0.1:6379
    database: main
databases:
  main: # PostgreSQL
    capacity: 1000 # measured in May
    peak: 2000
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`herdwatch` in a folder with a configuration: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")  # the table is as wide as the terminal, whatever that is here
    (tmp_path / "my.yaml").write_text(CONFIG)

    def command(*arguments: object) -> tuple[int, str, str]:
        code = cli.run([str(one) for one in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return command


def journal(folder: Path, exponent: float, *, cache: str = "users", groups: tuple[str, ...] = ("default",)) -> Path:
    """A journal of 200,000 lookups on 5,000 keys by Zipf's law, in each group, by the guard's own writer."""
    chance = random.Random(1)  # noqa: S311 - traffic, not secrets
    weights = list(accumulate(rank**-exponent for rank in range(1, 5001)))
    with SyncGuard(SyncMemoryStore(), cache=cache, service="profiles", registry=None, hot_keys=500) as guard:
        for group in groups:
            hot = guard.core.counts[group].hot
            assert hot is not None
            for _ in range(200):
                hot.look([f"user:{number}" for number in chance.choices(range(5000), cum_weights=weights, k=1000)])
        JournalFile(folder, cache, "profiles", [guard.core]).write()
    return folder


def rows(out: str) -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(out)["rows"]}


def told(err: str) -> str:
    """The one sentence on stderr."""
    assert err.startswith("herdwatch: ")
    assert err.count("\n") == 1
    return err.removeprefix("herdwatch: ").strip()


def test_the_table_says_what_is_needed_and_what_comes_next(run: Run) -> None:
    code, out, err = run("plan", *QUESTION)
    assert (code, err) == (0, "")
    flat = " ".join(out.split())
    assert "hit ratio that the database needs 0.9500 1 - C / R = 1 - 2,500 / 50,000, at least 0 [1]" in flat
    assert re.search(r"no guard +50,000 loads/s +20 x", out)
    assert re.search(r"K, the hottest keys +940,68\d keys", out)
    assert "assumed, since nothing says better" in flat
    assert "] Breslau et al., INFOCOM 1999: Web Caching and Zipf-like Distributions\n" in out
    assert not re.search("\x1b", out)


def test_the_commands_that_come_next_can_be_typed(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("plan", *SMALL, "--journal", journal(tmp_path / "hot keys", 1.1))
    lines = [shlex.split(line) for line in out.partition("\nnext:\n")[2].splitlines()]
    assert [line[:2] for line in lines] == [["herdwatch", verb] for verb in ("plan", "render", "warm")]
    verbs = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    for _, verb, *words in lines:
        known = {option for one in verbs[verb].params for option in one.opts}
        assert {word for word in words if word.startswith("-")} <= known
    warm = lines[2]
    assert warm[warm.index("--journal") + 1] == str(tmp_path / "hot keys")
    assert warm[warm.index("--group") + 1] == "default"
    assert warm[warm.index("--cache") + 1] == "users"
    (tmp_path / "herdwatch.yaml").write_text(CONFIG)
    code, out, _ = run(*[{"NAME": "main"}.get(word, word) for word in lines[0][1:]])
    assert code == 0
    assert "wrote databases.main to herdwatch.yaml: capacity: 2500, peak: 50000" in out


@pytest.mark.parametrize("exponent", [0.8, 1.2])
def test_the_exponent_comes_from_the_journal(run: Run, tmp_path: Path, exponent: float) -> None:
    code, out, _ = run("plan", *SMALL, "--journal", journal(tmp_path / "hot", exponent), "--json")
    found = json.loads(out)
    assert code == 0
    assert found["exponent"]["from"] == "journal"
    assert found["asked"]["exponent"] == pytest.approx(exponent, abs=0.05)
    assert found["exponent"]["fit"]["good"]
    assert "the journal of profiles: from the " in found["exponent"]["text"]
    given = rows(run("plan", *SMALL, "--zipf", exponent, "--json")[1])
    assert rows(out)["singleflight"]["number"] == pytest.approx(given["singleflight"]["number"], rel=0.05)


def test_options_reach_the_arithmetic(run: Run) -> None:
    options = ("--load-ms", 10, "--processes", 4, "--max-loads", 5, "--ttl", 60, "--max-rate", 700, "--zipf", 0.9)
    found = json.loads(run("plan", *QUESTION, *options, "--json")[1])
    assert found["asked"] == {
        "peak_rps": 50_000,
        "capacity": 2500,
        "keys": 2_000_000,
        "exponent": 0.9,
        "load_seconds": 0.01,
        "processes": 4,
        "max_loads": 5,
        "ttl": 60,
        "warm_rate": 700,
    }
    numbers = {row["name"]: row["number"] for row in found["rows"]}
    assert numbers["limiter"] == pytest.approx(2000)
    assert numbers["warm_seconds_rate"] == pytest.approx(numbers["keys_to_warm"] / 700)
    assert found["written"] is None
    assert found["exponent"] == {"from": "given", "text": "given with --zipf", "fit": None, "left_out": []}
    assert found["next"][-1].endswith("--ttl 60 --max-rate 700")


def test_what_is_written_is_the_threshold_of_the_rendered_bundle(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("plan", *QUESTION, "--write", "--config", "my.yaml", "--database", "main")
    assert code == 0
    assert (tmp_path / "my.yaml").read_text() == CONFIG.replace("1000 #", "2500 #").replace("2000", "50000")
    assert "wrote databases.main to my.yaml: capacity: 2500, peak: 50000\n" in out
    assert "behind cache users: CacheHitRateLow fires under 0.95\n" in out
    assert "\n  herdwatch render --config my.yaml --out FOLDER\n" in out
    assert "herdwatch warm --cache users " in out
    assert run("render", "--config", "my.yaml", "--out", "bundle")[0] == 0
    rules = (tmp_path / "bundle" / "alerts" / "herdwatch.rules.yml").read_text()
    assert re.search(r'alert: CacheHitRateLow\n +cache: "?users"?', rules)
    assert re.search(r"vector\(0\.95", rules)


def test_json_says_what_was_written(run: Run, tmp_path: Path) -> None:
    asked = ("plan", *QUESTION, "--write", "--config", "my.yaml", "--database", "new", "--json")
    found = json.loads(run(*asked)[1])["written"]
    database = {"name": "new", "capacity": 2500.0, "peak": 50000.0}
    assert found == {"path": "my.yaml", "database": database, "changed": True, "caches": [], "overriding": []}
    assert json.loads(run(*asked)[1])["written"] == {**found, "changed": False}
    assert (tmp_path / "my.yaml").read_text() == CONFIG + "  new:\n    capacity: 2500\n    peak: 50000\n"


WRITE = ("--write", "--database", "main")
WRONG: dict[str, tuple[tuple[object, ...], str]] = {
    "no peak": (("--peak-rps", 0), "--peak-rps 0: it must be a number from 0.001 to 1e+12"),
    "a negative capacity": (("--db-capacity", -1), "--db-capacity -1: it must be a number"),
    "a capacity that is no number": (("--db-capacity", "nan"), "--db-capacity nan: it must be a number"),
    "a peak without end": (("--peak-rps", "inf"), "--peak-rps inf: it must be a number"),
    "words": (("--peak-rps", "many"), "Invalid value for '--peak-rps'"),
    "no keys": (("--keys", 0), "--keys 0: it must be a whole number from 1"),
    "too many keys": (("--keys", 10**13), "--keys 10000000000000: it must be"),
    "half a key": (("--keys", 1.5), "Invalid value for '--keys'"),
    "an exponent that is none": (("--zipf", "nan"), "--zipf nan: it must be a number from 0 to 5"),
    "a steep exponent": (("--zipf", 7), "--zipf 7: it must be"),
    "no time": (("--load-ms", 0), "--load-ms 0: it must be"),
    "no processes": (("--processes", 0), "--processes 0: it must be"),
    "no loads": (("--max-loads", -5), "--max-loads -5: it must be"),
    "no life": (("--ttl", "inf"), "--ttl inf: it must be"),
    "no rate": (("--max-rate", 0), "--max-rate 0: it must be"),
    "two exponents": (("--zipf", 1, "--journal", "x"), "give --zipf or --journal, not both"),
    "a group of nothing": (("--group", "x"), "--group is a group of a journal"),
    "a journal that is not there": (("--journal", "gone"), "gone: cannot be read: No such file"),
    "a journal that is none": (("--journal", "my.yaml"), "my.yaml:1: no journal of herdwatch"),
    "a folder without journals": (("--journal", "."), ".: no journal there"),
    "no name to write": (("--write",), "--write and --database NAME go together"),
    "a name and no writing": (("--database", "main"), "--write and --database NAME go together"),
    "a file and no writing": (("--config", "my.yaml"), "--config is the file to write to"),
    "no file to write to": (WRITE, "herdwatch.yaml: no such file; give one with --config"),
    "a folder to write to": ((*WRITE, "--config", "."), ".: no file; give the herdwatch.yaml"),
    "a name that is none": (("--write", "--database", "a b", "--config", "my.yaml"), "--database a b: a name is 1 to"),
    "no need": ((*WRITE, "--config", "my.yaml", "--peak-rps", 10), "needs no cache at a peak of 10"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_sentence_and_changes_nothing(run: Run, tmp_path: Path, case: str) -> None:
    arguments, tells = WRONG[case]
    code, out, err = run("plan", *QUESTION, *arguments)
    assert (code, out) == (2, "")
    assert tells in told(err)
    assert (tmp_path / "my.yaml").read_text() == CONFIG
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


def test_a_question_without_its_numbers_is_told(run: Run) -> None:
    code, _, err = run("plan", "--peak-rps", 5)
    assert code == 2
    assert "Missing option '--db-capacity'" in told(err)


def test_a_broken_configuration_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(CONFIG + "    peak: 5\n")
    code, _, err = run("plan", *QUESTION, *WRITE, "--config", "my.yaml")
    assert (code, told(err)) == (2, "my.yaml:10: not valid YAML: the key 'peak' is given twice")
    (tmp_path / "my.yaml").write_text(CONFIG)
    (tmp_path / "my.yaml").chmod(0o444)
    code, _, err = run("plan", *QUESTION, *WRITE, "--config", "my.yaml")
    assert (code, told(err)) == (2, "my.yaml: cannot be written: it is read-only")
    assert (tmp_path / "my.yaml").read_text() == CONFIG


def test_of_several_caches_or_groups_of_a_journal_one_has_to_be_named(run: Run, tmp_path: Path) -> None:
    folder = journal(tmp_path / "hot", 1.0, groups=("a", "b"))
    asked = ("plan", *SMALL, "--journal", folder)
    code, _, err = run(*asked)
    assert (code, told(err)) == (2, f"{folder}: 2 groups; name one of them with --group: a, b")
    assert "no group 'c' with lookups" in told(run(*asked, "--group", "c")[2])
    assert run(*asked, "--group", "a")[0] == 0
    journal(folder, 1.0, cache="orders")
    assert "journals of 2 caches; name one of them: orders, users" in told(run(*asked)[2])
    assert run(*asked, "--cache", "users", "--group", "a")[0] == 0
    assert "herdwatch warm --cache orders --journal" in run(*asked, "--cache", "orders")[1]
    assert "no journal of cache 'none'" in told(run(*asked, "--cache", "none")[2])


def test_a_journal_that_was_cut_off_is_refused_alone_and_left_out_of_a_folder(run: Run, tmp_path: Path) -> None:
    [whole] = journal(tmp_path / "hot", 1.0).iterdir()
    cut = whole.with_name(f"cut{journals.SUFFIX}")
    cut.write_bytes(whole.read_bytes()[:-30])
    (tmp_path / f"empty{journals.SUFFIX}").write_bytes(b"")
    for path in (cut, tmp_path / f"empty{journals.SUFFIX}"):
        code, out, err = run("plan", *SMALL, "--journal", path)
        assert (code, out) == (2, "")
        assert told(err).startswith(f"{path}:")
    code, out, _ = run("plan", *SMALL, "--journal", whole.parent)
    assert code == 0
    assert f"left out: {cut}:" in out
    [left_out] = json.loads(run("plan", *SMALL, "--journal", whole.parent, "--json")[1])["exponent"]["left_out"]
    assert left_out.startswith(f"{cut}:")


def test_a_journal_without_lookups_or_with_more_keys_than_there_are_says_nothing(run: Run, tmp_path: Path) -> None:
    path = tmp_path / f"a{journals.SUFFIX}"
    groups = {"default": journals.Group(100, 0, {f"k{n}": 2 for n in range(50)})}
    for held, tells in (({}, "a journal without a lookup"), (groups, "only 0 keys were looked up 20 times or more")):
        path.write_text("".join(journals.lines(journals.Journal("users", "profiles", 1.7e9, held))))
        assert tells in told(run("plan", *SMALL, "--journal", path)[2])
    few = ("--peak-rps", 50, "--db-capacity", 5, "--keys", 20)
    assert "50 keys were looked up, and --keys is 20" in told(run("plan", *few, "--journal", path)[2])
