"""Who is told: the receivers of one severity. Secrets stand in files that Alertmanager itself reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from herdwatch.config.fields import Address, File, HttpUrl, Label, Section, WrongHere

Severity = Literal["critical", "warning", "info", "watchdog"]
TeamSeverity = Literal["critical", "warning", "info"]
"""The watchdog belongs to no cache, so to no team."""

# Alertmanager executes these values as templates: nothing that could begin one gets through.
_CHANNEL = re.compile(r"[#@]?[\w.-]{1,80}")
_MAILBOX = r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*"
_MAIL = re.compile(_MAILBOX)
_MAILS = re.compile(rf"{_MAILBOX}(?:, ?{_MAILBOX}){{0,20}}")


def _whole_path(value: Path) -> Path:
    if not value.is_absolute():
        raise ValueError("give the whole path: Alertmanager looks for a relative one wherever it was started")
    return value


def _channel(value: str) -> str:
    if not _CHANNEL.fullmatch(value):
        raise ValueError("a channel is letters, digits, '_', '.' or '-', with or without '#', as in #on-call")
    return value


def _mail(value: str) -> str:
    if not _MAIL.fullmatch(value):
        raise ValueError("an e-mail address is NAME@HOST, as in herdwatch@example.com")
    return value


def _mails(value: str) -> str:
    if not _MAILS.fullmatch(value):
        raise ValueError("one or more e-mail addresses with commas between them, as in a@example.com, b@example.com")
    return value


SecretFile = Annotated[File, AfterValidator(_whole_path)]


class Slack(Section):
    """A channel, through the incoming webhook whose URL stands in a file."""

    api_url_file: SecretFile
    """The file that holds the URL of an incoming webhook."""
    channel: Annotated[str, AfterValidator(_channel)]
    """As in #on-call."""


class Email(Section):
    """E-mail through `smarthost`, which must offer TLS unless `require_tls` is false."""

    to: Annotated[str, AfterValidator(_mails)]
    """One or several addresses, with commas between them."""
    sender: Annotated[str, AfterValidator(_mail)] = Field(alias="from")
    """The address that it comes from."""
    smarthost: Address
    """HOST:PORT of the mail server."""
    username: Label | None = None
    """The user of the mail server."""
    password_file: SecretFile | None = None
    """The file that holds its password."""
    require_tls: bool = True
    """false for a mail server on this machine."""

    @model_validator(mode="after")
    def _whole(self) -> Email:
        if (self.username is None) != (self.password_file is None):
            raise WrongHere("username and password_file go together", "username" if self.username else "password_file")
        return self


class PagerDuty(Section):
    """A service of PagerDuty, by the Events API v2 key that stands in a file."""

    routing_key_file: SecretFile
    """The file that holds the key of an Events API v2 integration."""


class Receiver(Section):
    """Where Alertmanager delivers one severity: one or several of these.

    `webhook_url_file` holds the URL where that is a secret itself; Alertmanager reads it from 0.26 on.
    """

    webhook_url: HttpUrl | None = None
    """The URL of a webhook."""
    webhook_url_file: SecretFile | None = None
    """The file that holds the URL of a webhook, where that is a secret."""
    slack: Slack | None = None
    email: Email | None = None
    pagerduty: PagerDuty | None = None

    @model_validator(mode="after")
    def _delivers(self) -> Receiver:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError(f"names no receiver; known here: {', '.join(type(self).model_fields)}")
        if self.webhook_url and self.webhook_url_file:
            raise WrongHere("give webhook_url or webhook_url_file, not both", "webhook_url_file")
        return self

    @property
    def people(self) -> str | None:
        """The first of its keys that reaches people, None where only a program listens."""
        return next((name for name in ("slack", "email", "pagerduty") if getattr(self, name)), None)
