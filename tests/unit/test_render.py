"""Rendering: the same bytes every time, in step with the templates, all of it on disk or nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

import herdwatch
from herdwatch.bundle import render as rendering
from herdwatch.bundle import rules
from herdwatch.bundle.location import CONTENT_ROOMS, bundle_root
from herdwatch.bundle.render import render_bundle, stale, write
from herdwatch.bundle.templates import environment, render, yaml_scalar
from herdwatch.bundle.windows import Windows, duration
from herdwatch.config import Config, load, parse
from herdwatch.errors import CheckFailed, UsageError

ROOT = bundle_root()
HEADER = re.compile(r"^(?:# |<!-- )Rendered from (\S+); change that, then run: herdwatch render(?: -->)?\n")
SMALL = {PurePosixPath("alerts/a.yml"): "a: 1\n", PurePosixPath("dashboards/deep/b.json"): "{}\n"}


@pytest.fixture(scope="module")
def config() -> Config:
    return load(ROOT / "herdwatch.yaml")


@pytest.fixture(scope="module")
def bundle(config: Config) -> dict[PurePosixPath, str]:
    return render_bundle(config)


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the templates that a test may spoil; rendering reads it."""
    for room in CONTENT_ROOMS:
        shutil.copytree(ROOT / room / "templates", tmp_path / room / "templates")
    monkeypatch.setattr(rendering, "bundle_root", lambda: tmp_path)
    return tmp_path


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_rendering_twice_gives_the_same_bytes(config: Config, bundle: dict[PurePosixPath, str]) -> None:
    assert render_bundle(config) == bundle
    assert list(bundle) == sorted(bundle)


def test_the_committed_bundle_is_in_step_with_its_templates(bundle: dict[PurePosixPath, str]) -> None:
    assert stale(bundle, ROOT) == []


def test_every_rendered_file_but_json_names_the_template_it_came_from(bundle: dict[PurePosixPath, str]) -> None:
    named = {}
    for path, text in bundle.items():
        if path.suffix == ".json":
            json.loads(text)
            continue
        header = HEADER.match(text)
        assert header is not None, path
        named[header[1]] = path
    assert len(named) == sum(path.suffix != ".json" for path in bundle)
    assert all((ROOT / template).is_file() for template in named)


def test_every_template_that_is_no_part_of_others_is_rendered(bundle: dict[PurePosixPath, str]) -> None:
    templates = [path for room in CONTENT_ROOMS for path in (ROOT / room / "templates").iterdir()]
    made = [path for path in bundle if path.parts[0] in CONTENT_ROOMS]
    assert len(made) == sum(not path.name.startswith("_") for path in templates)


def test_no_rendered_file_carries_a_version_or_a_date(bundle: dict[PurePosixPath, str]) -> None:
    for path, text in bundle.items():
        assert not re.search(rf"(?<![\d.]){re.escape(herdwatch.__version__)}(?![\d.])", text), path
        assert not re.search(r"\b20\d\d-\d\d-\d\d\b", text), path


def test_what_is_in_step_is_not_stale(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    assert stale(SMALL, tmp_path) == []


def test_a_changed_file_is_stale_from_its_first_changed_line(tmp_path: Path) -> None:
    text = {PurePosixPath("alerts/a.yml"): "a: 1\nb: 2\nc: 3\n"}
    write(text, tmp_path)
    (tmp_path / "alerts/a.yml").write_text("a: 1\nb: 3\nc: 4\n")
    assert stale(text, tmp_path) == ["alerts/a.yml:2: differs from its template; run: herdwatch render"]


@pytest.mark.parametrize(
    ("found", "line"),
    [(b"a: 1\nmore\n", 2), (b"", 1), (b"a: 1", 1), (b"a: 1\r\n", 1), (b"\xff\xfe\0", 1)],
    ids=["longer", "empty", "without its end", "with carriage returns", "not text"],
)
def test_a_file_that_differs_in_any_byte_is_stale(tmp_path: Path, found: bytes, line: int) -> None:
    write(SMALL, tmp_path)
    (tmp_path / "alerts/a.yml").write_bytes(found)
    assert stale(SMALL, tmp_path) == [f"alerts/a.yml:{line}: differs from its template; run: herdwatch render"]


def test_a_missing_file_is_stale(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    (tmp_path / "alerts/a.yml").unlink()
    assert stale(SMALL, tmp_path) == ["alerts/a.yml: is missing; run: herdwatch render"]


def test_a_stray_file_is_stale_unless_people_edit_it(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    for name in ("runbooks/Gone.md", "dashboards/deep/old.json", "alerts/templates/x.j2", "alerts/tests/x.test.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert stale(SMALL, tmp_path) == [
        "dashboards/deep/old.json: has no template; remove it",
        "runbooks/Gone.md: has no template; remove it",
    ]


def test_writing_makes_folders_and_readable_files_and_nothing_else(tmp_path: Path) -> None:
    written = write(SMALL, tmp_path / "new" / "folder")
    assert files(tmp_path / "new" / "folder") == {"alerts/a.yml": b"a: 1\n", "dashboards/deep/b.json": b"{}\n"}
    assert written == [tmp_path / "new/folder" / path for path in SMALL]
    assert {oct(path.stat().st_mode & 0o777) for path in written} == {"0o644"}


def test_a_file_that_has_not_changed_is_not_touched(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    (tmp_path / "alerts/a.yml").write_text("old")
    kept = tmp_path / "dashboards/deep/b.json"
    before = kept.stat()
    assert write(SMALL, tmp_path) == [tmp_path / "alerts/a.yml"]
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert write(SMALL, tmp_path) == []


def file_for_a_folder(root: Path) -> str:
    (root / "dashboards").write_text("in the way")
    return "dashboards"


def file_for_a_folder_within(root: Path) -> str:
    (root / "dashboards").mkdir()
    (root / "dashboards/deep").write_text("in the way")
    return "dashboards/deep"


def folder_for_a_file(root: Path) -> str:
    (root / "dashboards/deep/b.json").mkdir(parents=True)
    return "dashboards/deep/b.json"


@pytest.mark.parametrize("spoil", [file_for_a_folder, file_for_a_folder_within, folder_for_a_file])
def test_a_folder_that_refuses_leaves_every_file_as_it_was(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts/a.yml").write_text("old")
    place = spoil(tmp_path)
    before = files(tmp_path)
    with pytest.raises(UsageError, match=re.escape(f"{tmp_path / place}") + ".*: cannot be written: "):
        write(SMALL, tmp_path)
    assert files(tmp_path) == before


def test_a_file_as_the_output_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(UsageError, match=rf"{re.escape(str(tmp_path / 'out'))}.*: cannot be written: Not a directory"):
        write(SMALL, tmp_path / "out")
    assert files(tmp_path) == {"out": b"in the way"}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_whatever_ends_the_writing_no_temporary_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    real, moved = os.replace, []

    def once(source: str, target: Path) -> None:
        if moved:
            raise error
        moved.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises((UsageError, KeyboardInterrupt), match=r"No space left on device|^$"):
        write(SMALL, tmp_path)
    assert files(tmp_path) == {"alerts/a.yml": b"a: 1\n"}


def test_an_unknown_name_in_a_template_is_told_with_the_template(tmp_path: Path) -> None:
    (tmp_path / "a.yml.j2").write_text("a: [= nobody_knows =]\n")
    with pytest.raises(CheckFailed, match=r"^a\.yml\.j2: 'nobody_knows' is undefined$"):
        render(environment(tmp_path), "a.yml.j2")


def test_an_unknown_key_of_the_configuration_is_told_with_the_template(config: Config, rooms: Path) -> None:
    page = rooms / "runbooks/templates/CacheDown.md.j2"
    page.write_text(page.read_text() + "[= config.thresholds.CacheFull =]\n")
    with pytest.raises(CheckFailed, match=r"^CacheDown\.md\.j2: .* has no attribute 'CacheFull'"):
        render_bundle(config)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\n[% if %]\n", "a.yml.j2:2: "),
        ("a: [= 1 =\n", "a.yml.j2:1: "),
        ('[% include "nowhere.j2" %]', "a.yml.j2: 'nowhere.j2' not found"),
    ],
)
def test_a_broken_template_is_told_with_its_name_and_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.yml.j2").write_text(text)
    with pytest.raises(CheckFailed) as caught:
        render(environment(tmp_path), "a.yml.j2")
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("left", ["[=", "=]", "[%", "%]", "[#", "#]"])
def test_a_delimiter_that_is_left_in_the_output_is_refused_with_its_line(tmp_path: Path, left: str) -> None:
    (tmp_path / "a.yml.j2").write_text("a: 1\nb: [= left =]\n")
    told = f"a.yml.j2: line 2 of its output still has the template delimiter '{left}'"
    with pytest.raises(CheckFailed, match=re.escape(told)):
        render(environment(tmp_path), "a.yml.j2", left=left)


def test_a_value_that_looks_like_a_delimiter_passes_through_the_yaml_filter(tmp_path: Path) -> None:
    (tmp_path / "a.yml.j2").write_text("[= value | yaml =]\n")
    text = render(environment(tmp_path), "a.yml.j2", value="[= a =] [% b %] [# c #] [=]")
    assert "[=" not in text
    assert json.loads(text.replace("\\x", "\\u00")) == "[= a =] [% b %] [# c #] [=]"


def test_pages_and_alerts_ask_the_exporter_as_prometheus_does(bundle: dict[PurePosixPath, str]) -> None:
    access = "prometheus: {exporter_access: {scheme: https}}"
    secure = render_bundle(parse(f"caches: [{{name: users, url: 'redis://h'}}]\n{access}", "herdwatch.yaml"))
    for scheme, texts in (("http", bundle), ("https", secure)):
        asked = [
            found
            for path, text in texts.items()
            for found in re.findall(r"(?:export EXPORTER=|curl -s '?)(\w+)://(?!PROM|ALERT)", text)
            if path.parts[0] in ("alerts", "runbooks")
        ]
        assert len(asked) > len([path for path in texts if path.parts[0] == "runbooks"]) - 2
        assert set(asked) == {scheme}


def test_numbers_and_booleans_stay_bare_in_yaml() -> None:
    assert [yaml_scalar(value) for value in (1, 2.5, True, "1")] == ["1", "2.5", "true", '"1"']


def test_an_expression_that_is_no_promql_is_told_with_file_line_and_rule(config: Config, rooms: Path) -> None:
    template = rooms / "alerts/templates/herdwatch.rules.yml.j2"
    template.write_text(template.read_text().replace("sum without (db) (cache_keys)", "sum without (db) (cache_keys"))
    with pytest.raises(CheckFailed, match=r"^alerts/herdwatch\.rules\.yml:\d+: cache_keys_total: not valid PromQL"):
        render_bundle(config)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("groups: [", "r.yml:1: not valid YAML"),
        ("groups:\n- {name: a\0}", "r.yml:1: not valid YAML"),
        ("- a\n", "r.yml:1: a rule file has a list of groups"),
        ("groups: 1\n", "r.yml:1: a rule file has a list of groups"),
        ("groups:\n  - a\n", "r.yml:2: a group has a name and a list of rules"),
        ("groups:\n  - name: a\n", "r.yml:2: a group has a name and a list of rules"),
        ("groups:\n  - name: a\n    rules:\n      - b\n", "r.yml:4: a rule has"),
        ("groups:\n  - name: a\n    rules:\n      - expr: up\n", "r.yml:4: a rule has"),
        ("groups:\n  - name: a\n    rules:\n      - record: b\n", "r.yml:4: a rule has"),
        ("groups:\n  - name: a\n    rules:\n      - {record: b, expr: up, labels: c}\n", "r.yml:4: a rule has"),
    ],
)
def test_what_is_no_rule_file_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        rules.load(text, "r.yml")
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (5, Windows("5s", "20s", "40s", "100s", "100s", "10m", "10s", "40s", "200s", "30s", "1m")),
        (15, Windows("15s", "1m", "2m", "5m", "5m", "30m", "30s", "2m", "10m", "30s", "1m")),
        (30, Windows("30s", "2m", "4m", "10m", "10m", "1h", "1m", "4m", "20m", "1m", "1m")),
        (60, Windows("1m", "4m", "8m", "20m", "20m", "2h", "2m", "8m", "40m", "2m", "2m")),
    ],
)
def test_windows_follow_the_scrape_interval_but_for_the_times_that_people_set(
    interval: float, expected: Windows
) -> None:
    assert Windows.of(interval) == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.5, "500ms"), (5.001, "5001ms"), (59, "59s"), (90, "90s"), (7200, "2h")]
)
def test_a_duration_is_written_in_the_largest_unit_that_divides_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


EVERYWHERE = "caches: [{name: users, url: 'redis://h'}]\nexporter: {listen: '0.0.0.0:9878'}\n"


def test_everybody_is_told_where_the_exporter_is_reached_and_not_where_it_listens() -> None:
    reached = render_bundle(
        parse(EVERYWHERE + "prometheus: {exporter_access: {address: 'a-host:9878'}}\n", "herdwatch.yaml")
    )
    for path in ("alerts/prometheus.yml", "alerts/targets.yml", "alerts/herdwatch.rules.yml", "runbooks/CacheDown.md"):
        assert "a-host:9878" in reached[PurePosixPath(path)]
    assert not [str(path) for path, text in reached.items() if "0.0.0.0:9878" in text]


@pytest.mark.parametrize("listen", ["0.0.0.0:9878", "[::]:1"])
def test_a_bundle_whose_exporter_nobody_could_ask_is_refused(listen: str) -> None:
    config = parse(EVERYWHERE.replace("0.0.0.0:9878", listen), "herdwatch.yaml")
    with pytest.raises(UsageError, match=re.escape(f"exporter.listen: {listen} is no address that Prometheus")):
        render_bundle(config)
