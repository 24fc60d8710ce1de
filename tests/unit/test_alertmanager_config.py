"""receivers: and teams: in herdwatch.yaml: what a wrong one is told, and what Alertmanager would be given."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.unit.one_cache import CACHE, SOURCE, check_told

from herdwatch.bundle.render import render_bundle
from herdwatch.config import Config, parse
from herdwatch.errors import ConfigError

LINKS = "links:\n  runbook_base_url: http://127.0.0.1:9878/runbooks\n"


def receiver(lines: str, severity: str = "critical") -> str:
    """A configuration whose one receiver has these lines, from line 7 on."""
    return (
        f"{CACHE}receivers:\n  # one\n  {severity}:\n" + "".join(f"    {line}\n" for line in lines.splitlines()) + LINKS
    )


def mail(lines: str) -> str:
    """The same with an e-mail, which these lines complete from line 9 on."""
    return receiver("email:\n  smarthost: mail:587\n" + "".join(f"  {line}\n" for line in lines.splitlines()))


WRONG = {
    "a receiver of nothing": (
        f"{CACHE}receivers:\n  info: {{}}\n",
        5,
        "receivers.info",
        "names no receiver; known here",
    ),
    "a receiver of another kind": (
        receiver("telegram: {}"),
        7,
        "receivers.critical.telegram",
        "known here: webhook_url, webhook_url_file, slack, email, pagerduty",
    ),
    "both URLs of a webhook": (
        receiver("webhook_url: http://h\nwebhook_url_file: /u"),
        8,
        "receivers.critical.webhook_url_file",
        "give webhook_url or webhook_url_file, not both",
    ),
    "a secret with a relative path": (
        receiver("pagerduty:\n  routing_key_file: secrets/key"),
        8,
        "receivers.critical.pagerduty.routing_key_file",
        "give the whole path",
    ),
    "a secret itself": (
        receiver("pagerduty:\n  routing_key_file: /k\n  routing_key: 0123"),
        9,
        "receivers.critical.pagerduty.routing_key",
        "known here: routing_key_file",
    ),
    "Slack without a channel": (
        receiver("slack:\n  api_url_file: /u"),
        7,
        "receivers.critical.slack.channel",
        "is required",
    ),
    "a channel that is a template": (
        receiver("slack:\n  api_url_file: /u\n  channel: '{{ .x }}'"),
        9,
        "receivers.critical.slack.channel",
        "as in #on-call",
    ),
    "an e-mail from nobody": (mail("to: a@b"), 7, "receivers.critical.email.from", "is required"),
    "an e-mail by the name of the field": (
        mail("to: a@b\nfrom: a@b\nsender: a@b"),
        11,
        "receivers.critical.email.sender",
        "known here: to, from, smarthost, username, password_file, require_tls",
    ),
    "an e-mail to a name": (mail("from: a@b\nto: on-call"), 10, "receivers.critical.email.to", "with commas between"),
    "an e-mail to a template": (mail("from: a@b\nto: '{{a}}@b'"), 10, "receivers.critical.email.to", "with commas"),
    "an e-mail from two": (mail("from: a@b, c@d\nto: a@b"), 9, "receivers.critical.email.from", "is NAME@HOST"),
    "an e-mail with half of its credentials": (
        mail("from: a@b\nto: a@b\nusername: a"),
        11,
        "receivers.critical.email.username",
        "username and password_file go together",
    ),
    "a watchdog that wakes people": (
        receiver("slack:\n  api_url_file: /u\n  channel: a", "watchdog"),
        7,
        "receivers.watchdog.slack",
        "never to people",
    ),
    "a team that no cache has": (
        f"{CACHE}teams:\n  payments:\n    info:\n      webhook_url: http://h\n",
        5,
        "teams.payments",
        "no cache has the team 'payments'; there is: platform",
    ),
    "a team's watchdog": (
        f"{CACHE}teams:\n  platform:\n    watchdog:\n      webhook_url: http://h\n",
        6,
        "teams.platform.watchdog",
        "'critical', 'warning' or 'info'",
    ),
    "a team's receiver of another kind": (
        f"{CACHE}teams:\n  platform:\n    info:\n      url: http://h\n",
        7,
        "teams.platform.info.url",
        "known here: webhook_url",
    ),
    "a team's page without runbooks": (
        f"{CACHE}teams:\n  platform:\n    critical:\n      webhook_url: http://h\nlinks: {{}}\n",
        8,
        "links.runbook_base_url",
        "a bundle that pages needs it",
    ),
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_receiver_is_told_with_its_line_its_path_and_what_would_be_right(sentence: str) -> None:
    check_told(WRONG[sentence])


@pytest.mark.parametrize("place", ["receivers:\n  info", "teams:\n  platform:\n    info"])
def test_a_password_in_a_webhook_is_refused_and_never_repeated(place: str) -> None:
    with pytest.raises(ConfigError, match="carries no user or password") as caught:
        parse(f"{CACHE}{place}: {{webhook_url: 'https://u:hunter2@h'}}\n", SOURCE)
    assert "hunter2" not in str(caught.value)


def receivers(config: Config) -> dict[str, dict[str, list[dict[str, object]]]]:
    """The receivers of the rendered alertmanager.yml by their names."""
    text = next(text for path, text in render_bundle(config).items() if path.name == "alertmanager.yml")
    return {one.pop("name"): one for one in yaml.safe_load(text)["receivers"]}


def test_without_receivers_nobody_is_told_anything() -> None:
    rendered = receivers(parse(CACHE, SOURCE))
    assert rendered == {name: {} for name in ("nobody", "critical", "warning", "info", "watchdog")}


def test_secrets_reach_alertmanager_as_the_names_of_their_files() -> None:
    everything = {
        "webhook_url_file": "/s/hook",
        "slack": {"api_url_file": "/s/slack", "channel": "#on-call"},
        "email": {
            "to": "a@example.com, b@example.com",
            "from": "c@example.com",
            "smarthost": "mail:587",
            "username": "u",
            "password_file": "/s/mail",
        },
        "pagerduty": {"routing_key_file": "/s/key"},
    }
    data = {
        "caches": [{"name": "users", "url": "redis://h", "team": "payments"}],
        "receivers": {"info": everything},
        "teams": {"payments": {"warning": everything}},
    }
    rendered = receivers(parse(yaml.safe_dump(data), SOURCE))
    info, warning = rendered["info"], rendered["payments/warning"]
    assert info["webhook_configs"] == [{"url_file": "/s/hook", "send_resolved": True}]
    assert info["slack_configs"][0].items() >= {"api_url_file": "/s/slack", "send_resolved": False}.items()
    assert warning["slack_configs"][0]["send_resolved"] is True
    assert (
        info["email_configs"][0].items()
        >= {
            "to": "a@example.com, b@example.com",
            "from": "c@example.com",
            "smarthost": "mail:587",
            "auth_username": "u",
            "auth_password_file": "/s/mail",
            "require_tls": True,
        }.items()
    )
    assert info["pagerduty_configs"][0]["routing_key_file"] == "/s/key"


def test_the_watchdog_goes_to_its_webhook_alone_and_its_end_is_told_by_its_silence() -> None:
    data = f"{CACHE}receivers:\n  watchdog:\n    webhook_url: http://127.0.0.1:9099/alive\n"
    rendered = receivers(parse(data, SOURCE))
    assert rendered.pop("watchdog") == {
        "webhook_configs": [{"url": "http://127.0.0.1:9099/alive", "send_resolved": False}]
    }
    assert not any(rendered.values())


def test_the_files_of_receivers_are_not_looked_for_beside_the_configuration(tmp_path: Path) -> None:
    text = f"{CACHE}receivers:\n  info:\n    pagerduty:\n      routing_key_file: /elsewhere/key\n"
    found = parse(text, SOURCE, folder=tmp_path).receivers["info"].pagerduty
    assert found is not None
    assert found.routing_key_file == Path("/elsewhere/key")
