"""herdwatch.yaml: what a wrong one is told, what thresholds follow from it, and what the commented default shows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.one_cache import CACHE, DEFAULT, SOURCE, WAYS, cache, check_told, uncommented

from herdwatch.config import Cache, Config, Section, listening, load, model, parse, prometheus, receivers, single
from herdwatch.errors import ConfigError

SEED = "databases:\n  main:\n    capacity: 2500\n    peak: 50000\n"


def named(name: str) -> str:
    return f"caches:\n  - url: redis://127.0.0.1\n    name: {name}\n"


def located(url: str) -> str:
    return f"caches:\n  - name: users\n    url: {url}\n"


WRONG = {
    "an unknown key at the top": ("cachess: 1\n" + CACHE, 1, "cachess", "known here: scrape_interval, caches"),
    "an unknown key of a cache": (cache("hostname: x"), 4, "caches[0].hostname", "known here: name, url, team"),
    "an unknown key of a database": (
        CACHE + SEED + "    size: 1\n",
        8,
        "databases.main.size",
        "known here: capacity, peak",
    ),
    "an unknown alert in overrides": (
        cache("overrides:\n  CacheFull: 0.5"),
        5,
        "caches[0].overrides.CacheFull",
        "known here: CacheHitRateLow, CacheRestarted, CacheKeysLost, CacheEvicting, CacheRefreshFailing, "
        "HighCoalescingRate",
    ),
    "an unknown severity": (
        CACHE + "receivers:\n  pager:\n    webhook_url: http://x\n",
        5,
        "receivers.pager",
        "'critical', 'warning', 'info' or 'watchdog'",
    ),
    "an unknown key with a line break": (CACHE + '"x\\ny": 1\n', 4, r"'x\ny'", "known here: scrape_interval"),
    "an interval without a unit": ("scrape_interval: 15\n" + CACHE, 1, "scrape_interval", "such as 15s, 500ms or 2m"),
    "an interval with a fraction": ("scrape_interval: 1.5s\n" + CACHE, 1, "scrape_interval", "a whole number"),
    "an interval beyond all numbers": (f"scrape_interval: {'9' * 400}s\n{CACHE}", 1, "scrape_interval", "such as 15s"),
    "an interval that is too short": ("scrape_interval: 1s\n" + CACHE, 1, "scrape_interval", "or equal to 5"),
    "an interval that is too long": ("scrape_interval: 2m\n" + CACHE, 1, "scrape_interval", "or equal to 60"),
    "a deadline of nothing": (CACHE + "exporter:\n  deadline: 0s\n", 5, "exporter.deadline", "greater than 0"),
    "a team that is a number": (cache("team: 7"), 4, "caches[0].team", "must be text; put it in quotes"),
    "a threshold that is text": (
        CACHE + "thresholds:\n  CacheHitRateLow: high\n",
        5,
        "thresholds.CacheHitRateLow",
        "must be a number",
    ),
    "a threshold that is no ratio": (
        CACHE + "thresholds:\n  CacheHitRateLow: 80\n",
        5,
        "thresholds.CacheHitRateLow",
        "less than 1",
    ),
    "a threshold that is not a number": (
        CACHE + "thresholds:\n  HighCoalescingRate: .inf\n",
        5,
        "thresholds.HighCoalescingRate",
        "finite",
    ),
    "one cache instead of a list": ("caches:\n  name: users\n", 1, "caches", "must be a list"),
    "a cache that is only a name": ("caches:\n  - users\n", 2, "caches[0]", "must be a mapping of keys"),
    "a list of databases": (CACHE + "databases: [main]\n", 4, "databases", "must be a mapping of keys"),
    "one address instead of a list": (
        CACHE + "prometheus:\n  alertmanagers: a:1\n",
        5,
        "prometheus.alertmanagers",
        "list",
    ),
    "no caches": ("scrape_interval: 15s\n", 1, "caches", "is required"),
    "an empty list of caches": ("caches: []\n", 1, "caches", "must not be empty"),
    "a cache without a URL": ("caches:\n  - name: users\n", 2, "caches[0].url", "is required"),
    "a cache name given twice": (
        CACHE + "  - name: users\n    url: redis://b\n",
        4,
        "caches[1].name",
        "the name 'users' is given twice; a cache's name is its label",
    ),
    "a name with a quote": (named("'a\"b'"), 3, "caches[0].name", "1 to 63 letters, digits"),
    "a name with a line break": (named(r'"a\nb"'), 3, "caches[0].name", "1 to 63 letters, digits"),
    "a name that ends with a line break": (named(r'"a\n"'), 3, "caches[0].name", "1 to 63 letters, digits"),
    "a name with a template": (named('"{{a}}"'), 3, "caches[0].name", "1 to 63 letters, digits"),
    "a name that is empty": (named('""'), 3, "caches[0].name", "1 to 63 letters, digits"),
    "a team on two lines": (cache(r'team: "a\nb"'), 4, "caches[0].team", "printable characters on one line"),
    "a team of spaces": (cache('team: " "'), 4, "caches[0].team", "without spaces at its ends"),
    "a job that ends with a line break": (
        CACHE + 'jobs:\n  cache: "a\\n"\n',
        5,
        "jobs.cache",
        "1 to 128 letters, digits",
    ),
    "two jobs of one name": (CACHE + "jobs:\n  cache: a\n  exporter: a\n", 4, "jobs", "must differ"),
    "a runbook URL without a scheme": (
        CACHE + "links:\n  runbook_base_url: wiki/runbooks\n",
        5,
        "links.runbook_base_url",
        "starts with http:// or https://",
    ),
    "a runbook URL with a query": (
        CACHE + "links:\n  runbook_base_url: http://wiki/?page=1\n",
        5,
        "links.runbook_base_url",
        "has no '?' and no '#'",
    ),
    "a dashboard URL with a broken escape": (
        CACHE + "links:\n  dashboard_base_url: http://wiki/%zz\n",
        5,
        "links.dashboard_base_url",
        "no space, quote or brace",
    ),
    "a receiver's URL with a template delimiter": (
        CACHE + "receivers:\n  info:\n    webhook_url: 'http://x/[= y =]'\n",
        6,
        "receivers.info.webhook_url",
        "no space, quote or brace",
    ),
    "a Redis URL of another scheme": (located("http://h"), 3, "caches[0].url", "redis://, rediss:// or unix://"),
    "a Redis URL without a host": (located("redis://"), 3, "caches[0].url", "as in redis://127.0.0.1:6379/0"),
    "a Redis URL with a path": (located("redis://h/main"), 3, "caches[0].url", "the number of a database"),
    "a Redis URL with an option": (located("redis://h/0?db=1"), 3, "caches[0].url", "options are keys of the cache"),
    "a socket's URL with an option": (located("unix:///s?db=1&x=2"), 3, "caches[0].url", "names a database and no"),
    "a socket's URL with a database that is none": (located("unix:///s?db=x"), 3, "caches[0].url", "redis.sock?db=1"),
    "a Redis URL with a template": (located('"redis://{{h}}"'), 3, "caches[0].url", "no space, quote or brace"),
    "a Redis URL that ends with a line break": (located(r'"redis://h\n"'), 3, "caches[0].url", "no space, quote"),
    "a Redis URL with a port out of range": (located("redis://h:70000"), 3, "caches[0].url", "a number up to 65535"),
    "a socket's URL with two slashes": (located("unix://run/a.sock"), 3, "caches[0].url", "unix:///run/redis.sock"),
    "both references to a password": (
        cache("password_env: A\npassword_file: /b"),
        5,
        "caches[0].password_file",
        "give password_env or password_file, not both",
    ),
    "a database that is not there": (
        cache("database: mian") + SEED,
        4,
        "caches[0].database",
        "databases has no 'mian'; there is: main",
    ),
    "a database where there are none": (cache("database: main"), 4, "caches[0].database", "there is: none"),
    "a capacity above the peak": (
        CACHE + "databases:\n  main:\n    capacity: 3\n    peak: 2\n",
        7,
        "databases.main.peak",
        "peak must exceed capacity",
    ),
    "a capacity equal to the peak": (
        CACHE + "databases:\n  main:\n    capacity: 2\n    peak: 2\n",
        7,
        "databases.main.peak",
        "peak must exceed capacity",
    ),
    "a page without runbooks": (
        CACHE + "receivers:\n  critical:\n    webhook_url: http://x\nlinks:\n  dashboard_base_url: http://g\n",
        7,
        "links.runbook_base_url",
        "a bundle that pages needs it",
    ),
    "a certificate's authority without TLS": (
        cache("tls_ca_file: /etc/ca.pem"),
        4,
        "caches[0].tls_ca_file",
        "tls_ca_file goes with a rediss:// url",
    ),
    "a certificate without its key": (
        CACHE.replace("redis://", "rediss://") + "    tls_cert_file: /etc/c.pem\n",
        4,
        "caches[0].tls_cert_file",
        "tls_cert_file and tls_key_file go together",
    ),
    "a file that is none": (cache('password_file: "a\\nb"'), 4, "caches[0].password_file", "a file is its path"),
    "a scraper's authority without https": (
        CACHE + "prometheus:\n  exporter_access:\n    ca_file: /etc/ca.pem\n",
        6,
        "prometheus.exporter_access.ca_file",
        "ca_file goes with scheme: https",
    ),
    "pages at an address that speaks TLS": (
        CACHE + "prometheus: {exporter_access: {scheme: https}}\nlinks:\n  runbook_base_url: http://127.0.0.1:9878/r\n",
        6,
        "links.runbook_base_url",
        "the exporter is reached by https there",
    ),
    "a scraper's certificate without its key": (
        CACHE + "prometheus:\n  exporter_access:\n    scheme: https\n    cert_file: /etc/c.pem\n",
        7,
        "prometheus.exporter_access.cert_file",
        "cert_file and key_file go together",
    ),
    "a scraper's name without a password": (
        CACHE + "prometheus:\n  exporter_access:\n    username: prometheus\n",
        6,
        "prometheus.exporter_access.username",
        "username and password_file go together",
    ),
    "an address without a port": (CACHE + "exporter:\n  listen: localhost\n", 5, "exporter.listen", "HOST:PORT"),
    "an address with a port out of range": (CACHE + "exporter:\n  listen: h:65536\n", 5, "exporter.listen", "as in"),
    "an address with a line break": (CACHE + 'exporter:\n  listen: "h\\n:80"\n', 5, "exporter.listen", "as in"),
    "an address with a digit that is none": (CACHE + "exporter:\n  listen: h:²\n", 5, "exporter.listen", "as in"),
    "an address with an empty label": (CACHE + "exporter:\n  listen: a..b:80\n", 5, "exporter.listen", "as in"),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_value_is_told_with_its_line_its_path_and_what_would_be_right(sentence: str) -> None:
    check_told(WRONG[sentence])


def test_aliases_that_stand_for_a_million_million_values_are_refused_without_being_counted() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError) as caught:
        parse("\n".join([*lines, "caches: [*l11]"]), SOURCE)
    assert str(caught.value).startswith(f"{SOURCE}:12: caches[0]: must be a mapping of keys\n")
    assert len(str(caught.value)) < 5000


NOT_YAML = {
    "an empty file": ("", 1, "the top level is empty; it must be a mapping of keys such as caches:"),
    "a list at the top": ("- caches\n", 1, "the top level is a list; it must be a mapping"),
    "a sentence": ("hello\n", 1, "the top level is a str; it must be a mapping"),
    "a key given twice": (CACHE + "jobs: {}\njobs: {}\n", 5, "the key 'jobs' is given twice"),
    "a key of a cache given twice": (cache("team: a\nteam: b"), 5, "the key 'team' is given twice"),
    "a key that is a mapping": ("{{ name }}: 1\n", 1, "a key is one word"),
    "a key that is a set": ("? !!set {a: }\n: 1\n", 1, "a key is one word"),
    "a merge key": ("a: &a {b: 1}\nc:\n  <<: *a\n", 3, "a key is one word, neither a list, a mapping nor <<"),
    "a tab": ("caches:\n\t- name: a\n", 2, "cannot start any token"),
    "an open quote": ('caches: "\n', 2, "found unexpected end of stream"),
    "an alias to nothing": ("caches: *x\n", 1, "found undefined alias"),
    "two documents": ("a: 1\n---\nb: 2\n", 2, "another document"),
    "a Python object": ("a: 1\nb: !!python/object/apply:os.getpid []\n", 2, "could not determine a constructor"),
    "a control character": ("a: 1\nb: \x00\n", 2, "unacceptable character #x0000"),
    "a month 13": ("a: 1\nb: 2026-13-01\n", 2, "'2026-13-01' is no timestamp"),
    "a number beyond all bounds": (f"a: {':'.join(['1'] * 200)}.0\n", 1, "is no float"),
    "a tag that lies": ("a: !!bool perhaps\n", 1, "'perhaps' is no bool"),
    "a code point that does not exist": ('a: "\\U00110000"\n', 1, "not in range"),
    "deep nesting": ("a: " + "[" * 20_000, 1, "nested too deeply"),
}


@pytest.mark.parametrize("sentence", NOT_YAML)
def test_what_is_no_yaml_mapping_is_told_in_one_sentence_with_its_line(sentence: str) -> None:
    text, line, right = NOT_YAML[sentence]
    with pytest.raises(ConfigError) as caught:
        parse(text, SOURCE)
    assert str(caught.value).startswith(f"{SOURCE}:{line}: ")
    assert right in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h:6379/0",
        "redis://user:hunter2@h",
        "redis://:hunter2/x@h:6379",
        "redis://:hunter2#x@h:6379",
        "redis://:hunter2[@h:6379",
        "redis://:hunter2[::1]@h:6379",
        "redis://:hunter2℀@h:6379",
        "redis://:x@hunter2:y:6379",
        "unix://:hunter2@/run/redis.sock",
        "rediss://h:hunter2",
    ],
)
def test_a_password_in_a_redis_url_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(located(f"'{url}'"), SOURCE)
    assert str(caught.value).startswith(f"{SOURCE}:3: caches[0].url: ")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://u:hunter2@h/x", "https://hunter2@h", "http://u:hunter2@h/?a=b c"])
@pytest.mark.parametrize("key", ["links:\n  runbook_base_url", "receivers:\n  info:\n    webhook_url"])
def test_a_user_or_password_in_a_link_is_refused_and_never_repeated(key: str, url: str) -> None:
    with pytest.raises(ConfigError, match="carries no user or password") as caught:
        parse(f"{CACHE}{key}: '{url}'\n", SOURCE)
    assert "hunter2" not in str(caught.value)


def test_a_password_given_as_a_key_is_refused_and_never_repeated() -> None:
    with pytest.raises(ConfigError, match=r"4: caches\[0\]\.password: unknown key; .*password_env") as caught:
        parse(cache("password: hunter2"), SOURCE)
    assert "hunter2" not in str(caught.value)


def test_every_fault_of_a_file_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("caches:\n  - name: 'a b'\n    url: h\n  - name: c\njobs: 3\n", SOURCE)
    places = [line.split(": ")[:2] for line in str(caught.value).splitlines()]
    assert places == [
        [f"{SOURCE}:2", "caches[0].name"],
        [f"{SOURCE}:3", "caches[0].url"],
        [f"{SOURCE}:4", "caches[1].url"],
        [f"{SOURCE}:5", "jobs"],
    ]


def test_a_file_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file; give one with --config"):
        load(tmp_path / "nowhere.yaml")


def test_a_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(tmp_path))}: cannot be read: Is a directory$"):
        load(tmp_path)


def test_a_file_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        load(tmp_path / "file" / "herdwatch.yaml")


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("caches: é".encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}: not UTF-8 text$"):
        load(path)


def test_the_lowest_hit_ratio_follows_from_what_the_database_can_take() -> None:
    config = parse(cache("database: main") + SEED, SOURCE)
    assert config.threshold(config.caches[0], "CacheHitRateLow") == pytest.approx(0.95)
    assert config.threshold(config.caches[0], "CacheRestarted") is None


def test_an_override_beats_what_the_database_can_take() -> None:
    config = parse(cache("database: main\noverrides:\n  CacheHitRateLow: 0.7") + SEED, SOURCE)
    assert config.threshold(config.caches[0], "CacheHitRateLow") == 0.7


def test_without_a_database_the_default_threshold_holds() -> None:
    config = parse(CACHE, SOURCE)
    assert config.threshold(config.caches[0], "CacheHitRateLow") is None
    assert config.thresholds.CacheHitRateLow == 0.8


@pytest.mark.parametrize(
    ("url", "instance"),
    [
        ("redis://h", "h:6379"),
        ("redis://exporter@H:7000/3", "h:7000"),
        ("rediss://[::1]:7000", "[::1]:7000"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_the_instance_of_a_cache_is_its_address_without_user(url: str, instance: str) -> None:
    assert parse(located(f'"{url}"'), SOURCE).caches[0].instance == instance


def test_a_cache_without_a_reference_has_no_password() -> None:
    assert Cache(name="users", url="redis://h").password() is None


def test_a_password_is_read_from_the_environment_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Cache(name="users", url="redis://h", password_env="HERDWATCH_TEST_PASSWORD")
    monkeypatch.setenv("HERDWATCH_TEST_PASSWORD", "hunter2")
    assert one.password() == "hunter2"


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HERDWATCH_TEST_PASSWORD", raising=False)
    one = Cache(name="users", url="redis://h", password_env="HERDWATCH_TEST_PASSWORD")
    with pytest.raises(ConfigError, match="cache users: password_env names HERDWATCH_TEST_PASSWORD, which is not set"):
        one.password()


def test_a_password_is_read_from_a_file_without_its_last_line_break(tmp_path: Path) -> None:
    one = Cache(name="users", url="redis://h", password_file=tmp_path / "secret")
    for written in ("hunter2\n", "\ufeffhunter2\r\n"):  # as Windows writes it
        (tmp_path / "secret").write_text(written, encoding="utf-8")
        assert one.password() == "hunter2"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", "No such file"),
        (".", "it is no regular file"),
        ("pipe", "it is no regular file"),
        ("bytes", "it is not text"),
        ("a\0b", ".*embedded null"),  # newer Pythons say where
        ("lines", "it has more than one line"),
        ("long", "it has more than one line, or a very long one"),
    ],
)
def test_a_password_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "lines").write_text("one\ntwo\n")
    (tmp_path / "long").write_text("a" * 5000)
    os.mkfifo(tmp_path / "pipe")
    one = Cache(name="users", url="redis://h", password_file=tmp_path / name)
    with pytest.raises(ConfigError, match=f"(?s)cache users: password_file .* cannot be read: {why}"):
        one.password()


def test_an_empty_file_or_variable_is_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setenv("EMPTY", "")
    for reference in ({"password_file": tmp_path / "empty"}, {"password_env": "EMPTY"}):
        assert Cache(name="users", url="redis://h", **reference).password() is None


def test_the_files_of_a_cache_are_beside_the_configuration_and_those_of_prometheus_are_its_own(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    access = "prometheus: {exporter_access: {scheme: https, ca_file: ca.pem}}\n"
    file.write_text(cache("password_file: secret\n") + "  - {name: b, url: 'redis://h', password_file: /s}\n" + access)
    config = load(file)
    assert [one.password_file for one in config.caches] == [tmp_path / "secret", Path("/s")]
    assert config.prometheus.exporter_access.ca_file == Path("ca.pem")


def test_one_redis_from_the_command_line_is_a_whole_configuration() -> None:
    config = single("redis://h", username="exporter", password_env=None)
    assert [(one.name, one.username, one.password_env) for one in config.caches] == [("cache", "exporter", None)]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"url": "h"}, "--redis-url: a Redis URL starts with"),
        ({"url": "redis://h", "username": "a\nb"}, "--username: a label is"),
        ({"url": "redis://h", "password_env": "A B"}, "--password-env: a name is"),
        ({"url": "redis://h", "password_env": "A", "password_file": Path("b")}, "--password-file: give password_env"),
    ],
)
def test_a_wrong_value_on_the_command_line_is_told_with_its_option(given: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        single(**given)
    assert str(caught.value).startswith(told)


def test_another_address_leaves_the_rest_of_the_configuration_as_it_is() -> None:
    config = parse(CACHE + "exporter:\n  deadline: 2s\n  samples: 200\n  scan_budget: 1ms\n", SOURCE)
    moved = listening(config, "[::1]:0")
    assert moved.exporter == config.exporter.model_copy(update={"listen": "[::1]:0"})
    assert moved.model_copy(update={"exporter": config.exporter}) == config
    with pytest.raises(ConfigError, match="--listen: an address is HOST:PORT"):
        listening(config, "here")


def blocks(section: Section) -> Iterator[Section]:
    yield section
    for name in type(section).model_fields:
        value = getattr(section, name)
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
        for one in inner:
            if isinstance(one, Section):
                yield from blocks(one)


def test_the_default_file_shows_every_key_that_exists_and_is_valid_with_all_of_them() -> None:
    shown: dict[str, set[str]] = {}
    for way in WAYS:
        for block in blocks(parse(uncommented(way), SOURCE)):
            shown.setdefault(type(block).__name__, set()).update(block.model_fields_set)
    named = {**vars(model), **vars(prometheus), **vars(receivers)}.values()
    classes = [one for one in named if isinstance(one, type) and issubclass(one, Section)]
    assert shown == {one.__name__: set(one.model_fields) for one in classes if one is not Section}


def test_the_default_file_as_it_is_says_what_the_defaults_say() -> None:
    given = load(DEFAULT)
    bare = parse("caches:\n  - name: cache\n    url: redis://127.0.0.1:6379/0\n", SOURCE)
    assert given.links.runbook_base_url == "http://127.0.0.1:9878/runbooks"
    assert given.model_copy(update={"links": bare.links}) == bare


def test_a_configuration_does_not_change_after_loading() -> None:
    config: Config = parse(CACHE, SOURCE)
    with pytest.raises(ValueError, match="frozen"):
        config.caches = ()
