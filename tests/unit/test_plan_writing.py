"""A capacity goes into herdwatch.yaml, and nothing else in it changes: no comment, no quote, not how a line ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from herdwatch import config as configuration
from herdwatch.bundle.location import bundle_root
from herdwatch.errors import ConfigError, UsageError
from herdwatch.operations.plan import check, editing, write, writing
from herdwatch.operations.plan.editing import Database, edited

MAIN = Database("main", 2500.0, 50000.0)
CACHES = "caches:\n  - name: users # mine\n    url: 'redis://h'\n"
ENTRY = "  main:\n    capacity: 2500\n    peak: 50000\n"
OTHER = "databases:\n  other:\n    capacity: 1\n    peak: 2\n"

EDITS: dict[str, tuple[str, str]] = {
    "no databases": (CACHES, f"{CACHES}databases:\n{ENTRY}"),
    "no databases, and no end of the last line": (CACHES + "# the end", f"{CACHES}# the end\ndatabases:\n{ENTRY}"),
    "no databases, all of it indented": (
        "  caches: [{name: a, url: redis://h}]\n",
        "  caches: [{name: a, url: redis://h}]\n  databases:\n    main:\n      capacity: 2500\n      peak: 50000\n",
    ),
    "empty braces": (f"databases: {{}}\n{CACHES}", f"databases:\n{ENTRY}{CACHES}"),
    "empty braces and a comment": (
        f"'databases' :  {{ }}  # none yet\n#  main:\n{CACHES}",
        f"'databases' :  # none yet\n{ENTRY}#  main:\n{CACHES}",
    ),
    "empty braces at the end": (f"{CACHES}databases: {{}}", f"{CACHES}databases:\n{ENTRY}"),
    "another database": (f"{OTHER}{CACHES}", f"{OTHER}{ENTRY}{CACHES}"),
    "another database at the end": (f"{CACHES}{OTHER.rstrip()}", f"{CACHES}{OTHER}{ENTRY}"),
    "another database in braces": (
        f"databases:\n  other: {{capacity: 1,\n    peak: 2}} # c\n\n{CACHES}",
        f"databases:\n  other: {{capacity: 1,\n    peak: 2}} # c\n{ENTRY}\n{CACHES}",
    ),
    "comments that belong to another database, and to what comes next": (
        f"{OTHER}    # about other\n  # too\n# about caches\n{CACHES}",
        f"{OTHER}    # about other\n  # too\n{ENTRY}# about caches\n{CACHES}",
    ),
    "wider steps": (
        f"databases:\n    other: # o\n          peak: 2\n          capacity: 1\n{CACHES}",
        "databases:\n    other: # o\n          peak: 2\n          capacity: 1\n"
        f"    main:\n          capacity: 2500\n          peak: 50000\n{CACHES}",
    ),
    "its numbers": (
        f"databases:\n  \"main\":   # m\n    peak:  7.5   # p\n\n    # between\n    capacity: 1_0 # c\n{CACHES}",
        f"databases:\n  \"main\":   # m\n    peak:  50000   # p\n\n    # between\n    capacity: 2500 # c\n{CACHES}",
    ),
    "one of its numbers": (
        f"databases:\n  main:\n    peak: 5_0000.0\n    capacity: 1\n{CACHES}",
        f"databases:\n  main:\n    peak: 5_0000.0\n    capacity: 2500\n{CACHES}",
    ),
    "lines that end as in Windows": (
        f"{CACHES}{OTHER}".replace("\n", "\r\n"),
        f"{CACHES}{OTHER}{ENTRY}".replace("\n", "\r\n"),
    ),
    "Windows, and no databases": (CACHES.replace("\n", "\r\n"), f"{CACHES}databases:\n{ENTRY}".replace("\n", "\r\n")),
    "a byte order mark and explicit keys": (
        f"\ufeff---\n? databases\n:\n  main:\n    ? capacity\n    : 1\n    peak: 2\n{CACHES}",
        f"\ufeff---\n? databases\n:\n  main:\n    ? capacity\n    : 2500\n    peak: 50000\n{CACHES}",
    ),
    "as it should be already": (
        f"databases:\n  main:\n    capacity: 2500.0\n    peak: 5.0e+4\n{CACHES}",
        f"databases:\n  main:\n    capacity: 2500.0\n    peak: 5.0e+4\n{CACHES}",
    ),
}  # fmt: skip

REFUSED: dict[str, tuple[str, int, str]] = {
    "all in braces": ("{caches: [{name: a, url: redis://h}]}", 1, "all of it stands in braces"),
    "databases in braces": (
        f"{CACHES}databases: {{other: {{capacity: 1, peak: 2}}}}\n",
        4,
        "databases stands in braces",
    ),
    "this one in braces": (f"{CACHES}databases:\n  main: {{capacity: 1, peak: 2}}\n", 5, "main stands in braces"),
    "braces on a line of their own": (f"{CACHES}databases:\n  {{}}\n", 5, "{} does not follow databases:"),
    "an anchor": (f"{CACHES}databases: &all\n  other: &one\n    capacity: 1\n    peak: 2\n", 4, "an anchor"),
    "an alias": (f"{CACHES}databases:\n  a: &a\n    capacity: 1\n    peak: 2\n  b: *a\n", 5, "an alias"),
    "a tag": (f"{CACHES}databases:\n  main:\n    capacity: !!float 1\n    peak: 2\n", 6, "a tag"),
    "an end": (f"{CACHES}...\n", 4, "the document ends here"),
}


@pytest.mark.parametrize("case", EDITS)
def test_the_database_is_set_and_the_rest_stays(case: str) -> None:
    before, after = EDITS[case]
    assert edited(before, "f", MAIN) == after
    assert edited(after, "f", MAIN) == after
    assert configuration.parse(after, "f").databases["main"].needed_hit_ratio == pytest.approx(0.95)


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_edited_safely_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    text, line, why = REFUSED[case]
    path = tmp_path / "herdwatch.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as raised:
        write(path, MAIN)
    told = str(raised.value)
    assert told.startswith(f"{path}:{line}: not edited, because ")
    assert why in told
    assert told.endswith("set databases.main by hand, to capacity: 2500 and peak: 50000")
    assert path.read_text() == text


SPACE = st.sampled_from(("", " ", "   "))
COMMENT = st.one_of(st.just(""), st.text("#'\"{}&*:- aé😀\t", max_size=12).map(lambda text: f" #{text}"))
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True)
QUOTES = st.sampled_from(('"', "'"))
RATES = st.one_of(st.integers(1, 10**9).map(float), st.floats(1e-3, 1e12))
GAPS = st.lists(st.one_of(st.just(""), COMMENT.map(str.strip)), max_size=2)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[list[str], list[str], int, list[str]]:
    """A configuration as lines: before the databases, the databases, how far in these stand, and after them."""
    column = draw(st.integers(1, 4))
    lines = [f"databases:{draw(COMMENT)}"]
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        quote = draw(QUOTES)
        lines += [f"{' ' * column}{quote}{name}{quote}:{draw(COMMENT)}"]
        numbers = draw(st.permutations(("capacity: 1.5", "peak: 7")))
        lines += [f"{' ' * (column + 2)}{number}{draw(COMMENT)}" for number in numbers]
    first = [*draw(GAPS), f"caches:{draw(COMMENT)}", f"- name: a{draw(COMMENT)}", f"  url: redis://h{draw(COMMENT)}"]
    second = [f"thresholds: {{CacheHitRateLow: 0.7}}{draw(COMMENT)}", *draw(GAPS), "jobs:", "  cache: 'x'"]
    before, after = (first, second) if draw(st.booleans()) else (second, first)
    return before, lines, column, after


@given(made=configurations(), name=NAMES, capacity=RATES, more=RATES, newline=st.sampled_from(("\n", "\r\n")))
@settings(max_examples=150, deadline=None)
def test_of_any_configuration_nothing_but_the_database_changes(
    made: tuple[list[str], list[str], int, list[str]], name: str, capacity: float, more: float, newline: str
) -> None:
    before, databases, column, after = made
    text = newline.join([*before, *databases, *after, ""])
    old = configuration.parse(text, "f")
    wanted = Database(name, capacity, capacity + more)
    new = edited(text, "f", wanted)
    found = configuration.parse(new, "f")
    assert (found.databases[name].capacity, found.databases[name].peak) == wanted[1:]
    assert found.model_copy(update={"databases": old.databases}) == old
    if name in old.databases:
        numbers = {
            "capacity: 1.5": f"capacity: {editing.plain(wanted.capacity)}",
            "peak: 7": f"peak: {editing.plain(wanted.peak)}",
        }
        assert {key: one for key, one in found.databases.items() if key != name} == {
            key: one for key, one in old.databases.items() if key != name
        }
        for was, now in zip(text.split(newline), new.split(newline), strict=True):
            assert was == now or any(was.replace(*one, 1) == now for one in numbers.items())
    else:
        lines = new.split(newline)
        place = len(before) + len(databases)
        while not lines[place].strip().startswith((f"{name}:", f'"{name}":')):
            assert lines[place].lstrip().startswith("#")
            place += 1
        assert lines[place].startswith(" " * column)
        assert newline.join(lines[:place] + lines[place + 3 :]) == text


@given(
    capacity=RATES,
    peak=RATES,
    name=st.sampled_from(("1234", "true", "null", "1.5", "0x1f", "2026-01-01", "yes", "1_0")),
)
@settings(max_examples=50, deadline=None)
def test_numbers_and_names_that_yaml_reads_otherwise_come_back_as_they_are(
    capacity: float, peak: float, name: str
) -> None:
    assert [editing.plain(number) for number in (1e-7, 2.5, 1e15)] == ["0.0000001", "2.5", "1000000000000000"]
    found = configuration.parse(edited(CACHES, "f", Database(name, capacity, capacity + peak)), "f").databases
    assert {name: (one.capacity, one.peak) for name, one in found.items()} == {name: (capacity, capacity + peak)}


def test_the_default_configuration_takes_one_and_keeps_every_line(tmp_path: Path) -> None:
    text = (bundle_root() / "herdwatch.yaml").read_text(encoding="utf-8")
    path = tmp_path / "herdwatch.yaml"
    path.write_text(text)
    written = write(path, MAIN)
    assert path.read_text(encoding="utf-8") == text.replace("databases: {}\n", f"databases:\n{ENTRY}")
    assert written.changed
    assert written.said[1] == f"no cache uses it: thresholds follow once a cache of {path} has database: main"


def test_caches_that_follow_are_named_and_those_with_a_threshold_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "herdwatch.yaml"
    path.write_text(
        "caches:\n  - {name: a, url: redis://h, database: main}\n  - {name: b, url: redis://h}\n"
        "  - {name: c, url: redis://h, database: main, overrides: {CacheHitRateLow: 0.5}}\n"
        "databases:\n  main:\n    capacity: 1\n    peak: 9\n"
    )
    assert write(path, MAIN).said == (
        f"wrote databases.main to {path}: capacity: 2500, peak: 50000",
        "behind cache a, c: CacheHitRateLow fires under 0.95",
        "cache c overrides CacheHitRateLow, and that stays",
    )
    inode = path.stat().st_ino
    again = write(path, MAIN)
    assert not again.changed
    assert again.said[0] == f"{path} says of databases.main already: capacity: 2500, peak: 50000"
    assert path.stat().st_ino == inode


def test_mode_and_link_stay_and_nothing_is_left_beside(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    real, link = tmp_path / "etc" / "real.yaml", tmp_path / "herdwatch.yaml"
    real.write_text(CACHES)
    real.chmod(0o640)
    link.symlink_to(real)
    write(link, MAIN)
    assert link.is_symlink()
    assert real.read_text() == f"{CACHES}databases:\n{ENTRY}"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert list((tmp_path / "etc").iterdir()) == [real]


def test_a_file_that_is_read_only_or_changed_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "herdwatch.yaml"
    path.write_text(CACHES)
    path.chmod(0o444)
    with pytest.raises(UsageError, match="cannot be written: it is read-only"):
        write(path, MAIN)
    path.chmod(0o644)

    def meanwhile(text: str, source: str, wanted: Database) -> str:
        path.write_text(CACHES + "# somebody\n")
        return edited(text, source, wanted)

    monkeypatch.setattr(writing, "edited", meanwhile)
    with pytest.raises(UsageError, match="somebody else changed it meanwhile"):
        write(path, MAIN)
    assert path.read_text() == CACHES + "# somebody\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "herdwatch.yaml"
    path.write_text(CACHES)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="cannot be written: No space left on device"):
        write(path, MAIN)
    assert path.read_text() == CACHES
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "wrong", [f"{CACHES}databases:\n  main:\n    capacity: 1\n    peak: 3\n", CACHES + "# x\nteams: {}\n", "a: ["]
)
def test_an_edit_that_would_mean_something_else_is_not_written(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "herdwatch.yaml"
    path.write_text(CACHES)
    monkeypatch.setattr(writing, "edited", lambda *_: wrong)
    with pytest.raises(UsageError, match=r"herdwatch.yaml:1: not edited, because .* by hand"):
        write(path, MAIN)
    assert path.read_text() == CACHES


def test_an_edit_that_takes_another_database_or_key_along_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "herdwatch.yaml"
    path.write_text(CACHES + OTHER)
    for lost in (f"{CACHES}databases:\n{ENTRY}", f"{CACHES}{OTHER}{ENTRY}scrape_interval: 5s\n"):
        monkeypatch.setattr(writing, "edited", lambda *_, lost=lost: lost)
        with pytest.raises(UsageError, match="not edited"):
            write(path, MAIN)
    assert path.read_text() == CACHES + OTHER


@pytest.mark.parametrize(
    ("text", "tells"),
    [("", "the top level is empty"), (CACHES + "nonsense: 1\n", r":4: nonsense: unknown"), ("a: [", "not valid YAML"),
     (f"{CACHES}databases:\n  main:\n    capacity:\t1\n    peak: 2\n", ":6: not valid YAML")],
)  # fmt: skip
def test_a_broken_configuration_is_told_as_always(text: str, tells: str, tmp_path: Path) -> None:
    path = tmp_path / "herdwatch.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=tells):
        write(path, MAIN)
    assert path.read_text() == text


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, tells in ((tmp_path / "pipe", "no file"), (tmp_path, "no file"), (tmp_path / "gone", "no such file")):
        with pytest.raises(UsageError, match=tells):
            write(path, MAIN)
    (tmp_path / "latin").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        write(tmp_path / "latin", MAIN)


def test_what_herdwatch_yaml_could_not_hold_is_refused_before() -> None:
    assert check("main", 2500, 50000) == MAIN
    with pytest.raises(UsageError, match=r"--database a b: a name is 1 to 63 letters"):
        check("a b", 1, 2)
    with pytest.raises(UsageError, match=r"--write: a database that takes 5 needs no cache at a peak of 5"):
        check("main", 5, 5)
