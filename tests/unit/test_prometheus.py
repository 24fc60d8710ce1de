"""Questions to what answers at the address of a Prometheus, whatever it answers: one sentence, and no secret in it."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.certificates import Pair, self_signed
from tests.redis.fakes import serving
from tests.unit.a_prometheus import answering, cut_off, dripping, found, http

from herdwatch import prometheus
from herdwatch.config import Config, parse
from herdwatch.errors import CheckFailed, ConfigError, StackError, UsageError
from herdwatch.prometheus import Access, Prometheus, access_to
from herdwatch.proof import backtest
from herdwatch.proof.backtest.history import Extent, History
from herdwatch.proof.backtest.needs import Needs
from herdwatch.proof.backtest.samples import Window
from herdwatch.stack import http as simple


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return self_signed(tmp_path_factory.mktemp("tls"), "prometheus")


def failed(status: int, error: str) -> bytes:
    return http(status, json.dumps({"status": "error", "errorType": "execution", "error": error}))


def asked(url: str, **options: float) -> list[dict[str, object]]:
    return Prometheus(Access.of(url), **{"seconds": 5.0, "pause": 0.0, **options}).query("up", 1)


WRONG: dict[str, tuple[bytes, str, int]] = {
    "credentials are missing": (http(401, "Unauthorized", "text/plain"), "answers 401: it wants other credentials", 1),
    "access is forbidden": (http(403, "<html>", "text/html"), "answers 403: it wants other credentials", 1),
    "there is no API": (http(404, "404 page not found", "text/plain"), "not as Prometheus's API does; is a path", 1),
    "a page of HTML": (http(200, "<!doctype html>", "text/html"), "answers 200, but not as Prometheus's API does", 1),
    "other JSON": (http(200, "[1, 2]"), "answers 200, but not as Prometheus's API does", 1),
    "a result of another kind": (http(200, '{"status": "success", "data": {"result": 5}}'), "not as Prometheus's", 1),
    "a login elsewhere": (b"HTTP/1.1 302 X\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", "leads elsewhere", 1),
    "a wrong query": (failed(400, "parse error\nat 3"), "answers 400: parse error at 3", 1),
    "a query that is too slow": (failed(503, "query timed out"), "answers 503: query timed out", 2),
    "a gateway that is": (http(504, "", "text/plain"), "answers 504: no whole answer", 2),
    "a value that is a number": (found({"metric": {}, "value": [1, 1]}), "answers 200, but not as Prometheus's", 1),
    "a value that is none": (found({"metric": {}, "values": [[1, "many"]]}), "answers 200, but not as Prometheus's", 1),
    "values that are no pairs": (found({"metric": {}, "values": [[1]]}), "answers 200, but not as Prometheus's", 1),
    "values that are no list": (found({"metric": {}, "values": 5}), "answers 200, but not as Prometheus's", 1),
    "a time that is none": (found({"metric": {}, "values": [["a", "1"]]}), "answers 200, but not as Prometheus's", 1),
    "a time that never comes": (
        found({"metric": {}, "value": [1e300, "1"]}),
        "answers 200, but not as Prometheus's",
        1,
    ),
    "labels that are a list": (found({"metric": []}), "answers 200, but not as Prometheus's", 1),
    "a label that is a number": (found({"metric": {"cache": 5}}), "answers 200, but not as Prometheus's", 1),
    "half an answer": (found({"metric": {}})[:-9], "answers 200: no whole answer", 2),
    "no HTTP": (b"+PONG\r\n", "cannot be reached, or hangs up", 2),
    "nothing": (b"", "cannot be reached, or hangs up", 2),
    "too many samples": (failed(422, "query processing would load too many samples"), "narrow it with --cache", 1),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_answer_is_one_sentence_and_is_asked_for_again_where_that_may_help(sentence: str) -> None:
    answer, right, times = WRONG[sentence]
    with answering(lambda _: answer) as (url, requests), pytest.raises(CheckFailed) as caught:
        asked(url)
    assert str(caught.value).startswith(url)
    assert right in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(requests) == times


def test_what_fails_once_is_asked_again() -> None:
    answers = iter([failed(503, "busy"), found({"metric": {"a": "b"}, "values": []})])
    with answering(lambda _: next(answers)) as (url, _):
        assert asked(url) == [{"metric": {"a": "b"}, "values": []}]


def test_silence_has_a_deadline() -> None:
    with (
        answering(lambda _: None) as (url, requests),
        pytest.raises(CheckFailed, match=r"did not answer within 0\.2 s"),
    ):
        asked(url, seconds=0.2)
    assert len(requests) == 2


UP = found({"metric": {"a": "b"}, "values": []})


@pytest.mark.parametrize("begins", [0, 20, UP.index(b"{")], ids=["status", "headers", "body"])
@pytest.mark.parametrize("secured", [False, True], ids=["http", "https"])
def test_an_answer_that_drips_has_the_same_deadline(begins: int, secured: bool, pair: Pair) -> None:
    """Whoever waits for longer sees it end in the middle."""
    drip = dripping(UP[:begins], UP[begins : begins + 40])

    def behave(connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        with context.wrap_socket(connection, server_side=True) as over_tls:
            drip(over_tls)

    with serving(behave if secured else drip) as port:
        access = Access.of(f"http{'s' * secured}://127.0.0.1:{port}", ca_file=pair.certificate if secured else None)
        with pytest.raises(CheckFailed, match=r"did not answer within 0\.4 s"):
            Prometheus(access, seconds=0.4, pause=None).query("up", 1)


def test_an_answer_over_tls_is_read(pair: Pair) -> None:
    def behave(connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        with context.wrap_socket(connection, server_side=True) as over_tls:
            over_tls.recv(65_536)
            over_tls.sendall(UP)

    with serving(behave) as port:
        url = f"https://127.0.0.1:{port}"
        assert Prometheus(Access.of(url, ca_file=pair.certificate)).query("up", 1) == [
            {"metric": {"a": "b"}, "values": []}
        ]
        with pytest.raises(CheckFailed, match="its certificate is not trusted"):
            Prometheus(Access.of(url)).query("up", 1)


def test_an_error_that_is_cut_off_is_told_by_its_status() -> None:
    for status, right in ((401, "it wants other credentials"), (503, "no whole answer")):
        half = http(status, "x" * 1000)[:-900]
        with serving(cut_off(half)) as port:
            with pytest.raises(CheckFailed, match=f"answers {status}: {right}"):
                asked(f"http://127.0.0.1:{port}")
            with pytest.raises(StackError, match="does not answer"):
                simple.get(f"http://127.0.0.1:{port}")


def test_nobody_at_the_address_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(CheckFailed, match="cannot be reached, or hangs up: Connection refused"):
            asked(f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_an_answer_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "MAX_BYTES", 100_000)
    with (
        answering(lambda _: found({"metric": {"a": "b" * 200_000}})) as (url, _),
        pytest.raises(CheckFailed, match="an answer is larger than"),
    ):
        asked(url)


def test_credentials_are_sent_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_PASSWORD", "hunter2")
    (tmp_path / "token").write_text("hunter3\n")
    with answering(lambda _: http(401, "no")) as (url, requests):
        for access in (
            Access.of(url, username="me", password_env="PROMETHEUS_PASSWORD"),
            Access.of(url, bearer_file=tmp_path / "token"),
        ):
            assert "hunter" not in repr(access)
            with pytest.raises(CheckFailed) as caught:
                Prometheus(access).query("up", 1)
            assert "hunter" not in str(caught.value)
    assert f"Authorization: Basic {base64.b64encode(b'me:hunter2').decode()}\r\n" in requests[0]
    assert "Authorization: Bearer hunter3\r\n" in requests[1]


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "no URL": ({"url": "127.0.0.1:9090"}, "--prometheus: it is http://HOST:PORT or https"),
    "another scheme": ({"url": "file:///etc/passwd"}, "--prometheus: it is http://HOST:PORT or https"),
    "a port that is none": ({"url": "http://h:many"}, "--prometheus: not a URL"),
    "a password in the URL": ({"url": "http://me:hunter2@h"}, "--prometheus: credentials do not belong in the URL"),
    "a user alone": ({"username": "me"}, "--username goes with"),
    "a password alone": ({"password_env": "HOME"}, "--username goes with"),
    "a password that is not set": ({"username": "me", "password_env": "NOT_SET"}, "--password-env: NOT_SET is not set"),
    "a file that is not there": ({"bearer_file": Path("gone")}, "--bearer-file: gone cannot be read: No such file"),
    "an authority without TLS": ({"ca_file": Path("gone")}, "--ca-file goes with an https:// URL"),
    "an authority that is not there": (
        {"url": "https://h", "ca_file": Path("gone")},
        "--ca-file: gone cannot be read: No such file",
    ),
    "an authority that is none": (
        {"url": "https://h", "ca_file": Path(__file__)},
        "holds no certificate in PEM format",
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_wrong_access_is_told_by_the_option(sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    options, right = REFUSED[sentence]
    with pytest.raises(UsageError) as caught:
        Access.of(**{"url": "http://127.0.0.1:9090", **options})  # type: ignore[arg-type]
    assert right in str(caught.value)
    assert "hunter2" not in str(caught.value)


ASKED_AT = "https://prometheus.example:9090"
CONFIGURED = """
caches: [{{name: users, url: 'redis://h'}}]
prometheus: {{url: '{url}', access: {{{access}}}}}
"""


def configured(access: str, url: str = ASKED_AT, folder: Path = Path()) -> Config:
    return parse(CONFIGURED.format(url=url, access=access), "herdwatch.yaml", folder=folder)


def test_what_herdwatch_yaml_says_goes_to_its_own_prometheus_alone(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    config = configured("username: me, password_file: secret", folder=tmp_path)
    basic = f"Basic {base64.b64encode(b'me:hunter2').decode()}"
    for url in (None, ASKED_AT, f"{ASKED_AT}/"):
        access = access_to(url, config)
        assert access is not None
        assert (access.url, access.authorization) == (ASKED_AT, basic)
    for other in (access_to("https://h", config), access_to(ASKED_AT, None)):
        assert other is not None
        assert other.authorization is None
    given = access_to(ASKED_AT, config, bearer_file=tmp_path / "secret")
    assert given is not None
    assert given.authorization == "Bearer hunter2"
    assert access_to(None, parse("caches: [{name: users, url: 'redis://h'}]", "x")) is None


@pytest.mark.parametrize(
    ("access", "url", "right"),
    [
        ("username: me", ASKED_AT, "3: prometheus.access.username: username goes with password_env or password_file"),
        ("password_env: A", ASKED_AT, "prometheus.access.password_env: username goes with"),
        (
            "username: me, password_env: A, password_file: b",
            ASKED_AT,
            "prometheus.access.password_file: give password_env",
        ),
        ("username: me, password_env: A, bearer_file: b", ASKED_AT, "prometheus.access.bearer_file: give username or"),
        ("ca_file: a.pem", "http://h", "prometheus.access.ca_file: ca_file goes with an https:// url"),
    ],
)
def test_wrong_access_is_told_by_its_key(access: str, url: str, right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configured(access, url)
    assert right in str(caught.value)


def test_a_secret_that_is_not_there_is_told_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^prometheus\.access\.bearer_file: .*gone cannot be read: No such file"):
        access_to(None, configured("bearer_file: gone", folder=tmp_path))


RULES = "groups: [{name: g, rules: [{alert: A, expr: x > 1}]}]"


def test_a_piece_that_fails_in_the_middle_is_told_with_its_time(tmp_path: Path) -> None:
    """The series can be counted, and then their samples are not to be had."""
    (tmp_path / "mine.yml").write_text(RULES)
    request = backtest.of_rules(tmp_path / "mine.yml", (86_400, 90_000), 15)

    def answer(text: str) -> bytes:
        target = urlsplit(text.split()[1])
        if target.path.endswith("/query"):
            return failed(503, "the disk is gone")
        times = parse_qs(target.query)
        return found({"metric": {}, "values": [[float(times[edge][0]), "1"] for edge in ("start", "end")]})

    with answering(answer) as (url, requests), pytest.raises(CheckFailed) as caught:
        backtest.run(Access.of(url), request, workers=1)
    right = r"from 1970-01-02 00:00:00 to 1970-01-02 01:00:00 UTC: http://\S+ answers 503: the disk is gone"
    assert caught.match(f"^{right}$")
    assert sum("/query?" in one for one in requests) == 2


def test_what_is_too_much_is_fetched_by_halves() -> None:
    """Up to an hour at once is refused; every sample comes all the same, once."""
    refused: list[int] = []

    def answer(text: str) -> bytes:
        query = parse_qs(urlsplit(text.split()[1]).query)
        if "[" not in query["query"][0]:
            return found()
        seconds = int(query["query"][0].rpartition("[")[2].rstrip("s]")) - 1
        end = int(float(query["time"][0]))
        if seconds > 2_000:
            refused.append(seconds)
            return failed(422, "too many samples")
        values = [[at, "1"] for at in range(end - seconds, end + 1, 100)]
        return found({"metric": {"__name__": "x"}, "values": values})

    needs = Needs.of(RULES, "mine.yml")
    with answering(answer) as (url, _):
        history = History(Prometheus(Access.of(url)), needs)
        extent = Extent(0, {needs.wanted[0]: 1}, frozenset(needs.wanted))
        past = history.window(extent, Window(86_400, 90_000, 15))
    assert refused == [3_600]
    [series] = past.play.series
    assert [second for second, _ in series.points] == [at + (at % 15 == 0) for at in range(0, 3_600, 100)]


@pytest.mark.parametrize("value", ["NaN", "+Inf"])
def test_a_count_that_is_no_number_counts_nothing(value: str) -> None:
    needs = Needs.of(RULES, "mine.yml")

    def answer(text: str) -> bytes:
        if "/series?" in text:
            return http(200, '{"status": "success", "data": []}')
        return found({"metric": {}, "values": [[86_400, value]]}, {"metric": {}, "value": [86_400, value]})

    with answering(answer) as (url, _):
        history = History(Prometheus(Access.of(url)), needs)
        extent = history.extent(86_400, 86_400, 90_000)
        assert (extent.series, extent.missing) == (0, ["x"])
        assert history.window(extent, Window(86_400, 90_000, 15)).holes == ((86_400, 90_000),)
