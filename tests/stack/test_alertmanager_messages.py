"""What people get from a real Alertmanager with the rendered template, by Slack, e-mail and PagerDuty."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from tests import pager
from tests.mailbox import Mailbox
from tests.waiting import until

from herdwatch.stack import Supervisor, WebhookReceiver

ALERTS = {
    "told in the description": {
        "summary": "Cache users restarted cold: 3% of its keys are there",
        "description": "Redis h:1 <!channel> & others hold 30 keys; the limit is 50 % of 1000. "
        "First: redis-cli -u redis://h:1 INFO",
        "runbook_url": "http://127.0.0.1:9878/runbooks/CacheRestarted?cache=users",
        "dashboard_url": "http://127.0.0.1:3000/d/herdwatch?var-cache=users&from=now-1h",
    },
    "told in annotations of their own": {
        "summary": "Cache\n users restarted",
        "description": "It is cold.",
        "now": "30 keys",
        "threshold": "500 keys",
        "first": "redis-cli <INFO>",
    },
    "told nothing": {},
}


@dataclass(frozen=True)
class Got:
    """What came, by the cache that it is about."""

    slack: list[dict[str, Any]]
    pagerduty: list[dict[str, Any]]
    mails: list[EmailMessage]
    credentials: list[str]

    def chat(self, cache: str) -> str:
        """The first message in Slack on a cache: title and text."""
        found = [one["attachments"][0] for one in self.slack]
        return next(f"{one['title']}\n{one['text']}" for one in found if cache in f"{one['title']}{one['text']}")

    def mail(self, cache: str, kind: str) -> str:
        """The plain or html part of the first e-mail on a cache."""
        bodies = [body.get_content() for mail in self.mails if (body := mail.get_body([kind]))]
        return next(text for text in bodies if f"cache={cache}" in text)


@pytest.fixture(scope="module")
def got(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Got]:
    """One group for every entry of ALERTS, with another alert beside its first, and what came until all had ended."""
    folder = tmp_path_factory.mktemp("messages")
    with Supervisor() as supervisor, WebhookReceiver() as webhook, Mailbox() as mailbox:
        server = pager.start(supervisor, configured(folder, webhook.url, mailbox.address))
        alerts = [
            {"labels": pager.labels(alert, cache=f"c{number}", instance="h:1"), "annotations": annotations}
            for number, annotations in enumerate(ALERTS.values())
            for alert, annotations in (("CacheRestarted", annotations), ("CacheStampede", {}))
        ]
        alerts.append({"labels": pager.labels("HighCoalescingRate", cache="hot", service="api")})
        began = pager.now()
        pager.post(server, [{**alert, "startsAt": began} for alert in alerts])

        def counts() -> tuple[int, int, int]:
            return len(webhook.received("/slack")), len(webhook.received("/pagerduty")), len(mailbox.mails)

        until(lambda: counts() == (4, 3, 3), "a message of each kind on every cache, and coalescing", found=counts)
        pager.post(server, [{**alert, "startsAt": began, "endsAt": pager.now()} for alert in alerts])
        until(
            lambda: counts() == (7, 6, 6), "that all has ended", found=lambda: (counts(), server.process.last_words())
        )
        chat, events = ([one.body for one in webhook.received(path)] for path in ("/slack", "/pagerduty"))
        yield Got(chat, events, mailbox.mails, mailbox.credentials)


def configured(folder: Path, webhook: str, mailbox: str) -> Path:
    secrets = {"slack": f"{webhook}/slack", "mail": "hunter2", "pagerduty": "0123456789abcdef"}
    for name, secret in secrets.items():
        (folder / name).write_text(secret)
    slack = {"api_url_file": str(folder / "slack"), "channel": "#on-call"}
    people = {
        "slack": slack,
        "email": {
            "to": "on-call@example.com",
            "from": "herdwatch@example.com",
            "smarthost": mailbox,
            "username": "herdwatch",
            "password_file": str(folder / "mail"),
            "require_tls": False,
        },
        "pagerduty": {"routing_key_file": str(folder / "pagerduty")},
    }
    receivers = {"critical": people, "info": {"slack": slack}}
    path = pager.render(pager.configuration(webhook, receivers=receivers, teams={}), folder, scale=0.02)
    path.write_text(
        path.read_text().replace("- routing_key_file:", f"- url: {webhook}/pagerduty\n        routing_key_file:")
    )
    return path


def without_time(text: str) -> list[str]:
    return [re.sub(r"(since|Since: ) .* UTC, \d+ \w+ 20\d\d", "since", line) for line in text.strip().splitlines()]


def test_slack_shows_what_was_told_and_calls_nobody_for_a_label(got: Got) -> None:
    assert without_time(got.chat("Cache users restarted cold")) == [
        "[FIRING] CacheRestarted: Cache users restarted cold: 3% of its keys are there (and 1 more)",
        "Redis h:1 &lt;!channel&gt; &amp; others hold 30 keys; the limit is 50 % of 1000.",
        "First: `redis-cli -u redis://h:1 INFO`",
        "<http://127.0.0.1:9878/runbooks/CacheRestarted?cache=users|Runbook> "
        "<http://127.0.0.1:3000/d/herdwatch?var-cache=users&amp;from=now-1h|Dashboard> since",
        "1 further firing:",
        "• CacheStampede: cache c0",
    ]


def test_slack_shows_value_threshold_and_command_that_have_annotations_of_their_own(got: Got) -> None:
    assert without_time(got.chat("Cache users restarted (")) == [
        "[FIRING] CacheRestarted: Cache users restarted (and 1 more)",
        "It is cold.",
        "Now: *30 keys*",
        "Threshold: *500 keys*",
        "First: `redis-cli &lt;INFO&gt;`",
        "since",
        "1 further firing:",
        "• CacheStampede: cache c1",
    ]


def test_an_alert_without_annotations_is_told_by_its_name_and_cache(got: Got) -> None:
    assert without_time(got.chat("cache c2")) == [
        "[FIRING] CacheRestarted: cache c2 (and 1 more)",
        "since",
        "1 further firing:",
        "• CacheStampede: cache c2",
    ]
    assert without_time(got.mail("c2", "plain"))[0] == "CacheRestarted: cache c2"
    assert "<h3>CacheRestarted: cache c2</h3>" in got.mail("c2", "html")


def test_an_e_mail_is_one_line_of_subject_and_a_text(got: Got) -> None:
    mail = next(one for one in got.mails if "3%" in one["Subject"])
    assert (mail["From"], mail["To"]) == ("herdwatch@example.com", "on-call@example.com")
    assert mail["Subject"] == (
        "[FIRING] CacheRestarted: Cache users restarted cold: 3% of its keys are there (and 1 more)"
    )
    assert without_time(got.mail("c0", "plain")) == [
        "CacheRestarted: Cache users restarted cold: 3% of its keys are there",
        "",
        "Redis h:1 <!channel> & others hold 30 keys; the limit is 50 % of 1000.",
        "",
        "First:     redis-cli -u redis://h:1 INFO",
        "Runbook:   http://127.0.0.1:9878/runbooks/CacheRestarted?cache=users",
        "Dashboard: http://127.0.0.1:3000/d/herdwatch?var-cache=users&from=now-1h",
        "since",
        "Labels:    alertname=CacheRestarted cache=c0 instance=h:1 severity=critical",
        "",
        "1 further firing:",
        "- CacheStampede: cache c0",
    ]
    lines = without_time(got.mail("c1", "plain"))
    assert lines[lines.index("Now:       30 keys") :][:3] == [
        "Now:       30 keys",
        "Threshold: 500 keys",
        "First:     redis-cli <INFO>",
    ]


def test_the_html_of_an_e_mail_says_the_same_with_links_and_escapes_it(got: Got) -> None:
    html = got.mail("c0", "html")
    assert "<p>Redis h:1 &lt;!channel&gt; &amp; others hold 30 keys; the limit is 50 % of 1000.</p>" in html
    assert "<pre>redis-cli -u redis://h:1 INFO</pre>" in html
    assert '<a href="http://127.0.0.1:9878/runbooks/CacheRestarted?cache=users">Runbook</a>' in html
    assert 'var-cache=users&amp;from=now-1h">Dashboard</a>' in html
    assert "<p>1 further firing:</p>" in html
    assert "<p>Now: <b>30 keys</b></p>" in got.mail("c1", "html")
    assert "<pre>redis-cli &lt;INFO&gt;</pre>" in got.mail("c1", "html")


def test_pagerduty_gets_the_subject_the_severity_and_the_text_and_is_told_the_end(got: Got) -> None:
    begun = [event for event in got.pagerduty if event["event_action"] == "trigger"]
    ended = [event for event in got.pagerduty if event["event_action"] == "resolve"]
    assert {event["dedup_key"] for event in begun} == {event["dedup_key"] for event in ended}
    event = next(event["payload"] for event in begun if "3%" in event["payload"]["summary"])
    assert event["severity"] == "critical"
    assert event["summary"].startswith("[FIRING] CacheRestarted: Cache users restarted cold: 3% of its keys are there")
    assert "First:     redis-cli -u redis://h:1 INFO" in event["custom_details"]["firing"]


def test_the_end_is_told_of_what_is_critical_and_not_of_what_is_only_good_to_know(got: Got) -> None:
    titles = [one["attachments"][0]["title"] for one in got.slack]
    assert sum(title.startswith("[RESOLVED] CacheRestarted: ") for title in titles) == 3
    assert [title for title in titles if "HighCoalescingRate" in title] == ["[FIRING] HighCoalescingRate: cache hot"]
    ended = next(one["attachments"][0] for one in got.slack if "[RESOLVED]" in one["attachments"][0]["title"])
    assert ended["color"] == "good"
    assert ended["text"].strip().splitlines()[0] == "Resolved:"
    assert sum(mail["Subject"].startswith("[RESOLVED] ") for mail in got.mails) == 3


def test_slack_paints_by_severity_and_leads_to_the_runbook(got: Got) -> None:
    of_a_restart, of_coalescing = (
        next(one["attachments"][0] for one in got.slack if word in one["attachments"][0]["title"])
        for word in ("3%", "HighCoalescingRate")
    )
    assert (of_a_restart["color"], of_coalescing["color"]) == ("danger", "warning")
    assert of_a_restart["title_link"] == ALERTS["told in the description"]["runbook_url"]
    assert {one["channel"] for one in got.slack} == {"#on-call"}


def test_secrets_are_read_from_their_files(got: Got) -> None:
    assert set(got.credentials) == {"herdwatch hunter2"}
    assert {event["routing_key"] for event in got.pagerduty} == {"0123456789abcdef"}
