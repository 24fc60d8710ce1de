"""What herdwatch.yaml says of Prometheus: its jobs, whom it talks to, and how each side lets the other in."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from herdwatch.config.fields import (
    Address,
    BaseUrl,
    File,
    FileBeside,
    Job,
    Label,
    Name,
    Section,
    WrongHere,
)


class Jobs(Section):
    """Names of the scrape jobs in Prometheus."""

    cache: Job = "herdwatch"
    """Of the caches."""
    exporter: Job = "herdwatch-exporter"
    """Of the exporter itself."""
    application: Job = "herdwatch-applications"
    """Of the applications that expose the guard's families themselves."""


class ExporterAccess(Section):
    """Where Prometheus, and who follows a page, reach the exporter, and how, if it runs with --web.config.file."""

    address: Address | None = None
    """HOST:PORT under which it is reached, where that is another than `exporter.listen`, as behind 0.0.0.0."""
    scheme: Literal["http", "https"] = "http"
    """https where the exporter has a certificate."""
    ca_file: File | None = None
    """Who signed its certificate, where no public authority did."""
    cert_file: File | None = None
    """What Prometheus shows, where the exporter asks for a client certificate."""
    key_file: File | None = None
    """The key of `cert_file`."""
    username: Label | None = None
    """The user of basic authentication."""
    password_file: File | None = None
    """The file that holds its password."""

    @property
    def tls(self) -> dict[str, File]:
        """The files of Prometheus's tls_config that are given, by its own names."""
        files = {"ca_file": self.ca_file, "cert_file": self.cert_file, "key_file": self.key_file}
        return {name: file for name, file in files.items() if file is not None}

    @model_validator(mode="after")
    def _whole(self) -> ExporterAccess:
        if (self.username is None) != (self.password_file is None):
            raise WrongHere("username and password_file go together", "username" if self.username else "password_file")
        if self.tls and self.scheme == "http":
            raise WrongHere(f"{next(iter(self.tls))} goes with scheme: https", next(iter(self.tls)))
        if (self.cert_file is None) != (self.key_file is None):
            raise WrongHere("cert_file and key_file go together", "cert_file" if self.cert_file else "key_file")
        return self


class PrometheusAccess(Section):
    """How Prometheus lets in who asks it at `prometheus.url`; these go to that address alone."""

    username: Label | None = None
    """The user of basic authentication."""
    password_env: Name | None = None
    """The environment variable that holds its password."""
    password_file: FileBeside | None = None
    """The file that holds its password, relative to this configuration."""
    bearer_file: FileBeside | None = None
    """The file that holds a bearer token, instead of a user."""
    ca_file: FileBeside | None = None
    """Who signed its certificate, where no public authority did."""

    @model_validator(mode="after")
    def _one_way_in(self) -> PrometheusAccess:
        password = "password_env" if self.password_env else "password_file" if self.password_file else None
        if self.password_env and self.password_file:
            raise WrongHere("give password_env or password_file, not both", "password_file")
        if (self.username is None) != (password is None):
            message = "username goes with password_env or password_file, and they with it"
            raise WrongHere(message, password or "username")
        if self.username is not None and self.bearer_file is not None:
            raise WrongHere("give username or bearer_file, not both", "bearer_file")
        return self


class Prometheus(Section):
    """What the rendered prometheus.yml talks to, and where that Prometheus answers questions."""

    url: BaseUrl | None = None
    """Where it answers questions: `herdwatch verify` and the exporter's runbook pages ask what is normal."""
    access: PrometheusAccess = PrometheusAccess()
    """How it lets in who asks there."""
    alertmanagers: tuple[Address, ...] = Field(default=("127.0.0.1:9093",), strict=False)
    """HOST:PORT of each."""
    applications: tuple[Address, ...] = Field(default=(), strict=False)
    """HOST:PORT of applications that expose the guard's families themselves."""
    exporter_access: ExporterAccess = ExporterAccess()
    """How it reaches the exporter: under another address than it listens on, or with --web.config.file."""

    @model_validator(mode="after")
    def _access_is_to_something(self) -> Prometheus:
        if self.access != PrometheusAccess() and self.url is None:
            raise WrongHere("access goes with url: it is how that lets one in", "access")
        if self.access.ca_file is not None and not (self.url or "").startswith("https://"):
            raise WrongHere("ca_file goes with an https:// url", "access", "ca_file")
        return self
