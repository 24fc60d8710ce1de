"""What is left to people after a promotion, as commands that they can run."""

from __future__ import annotations

from collections.abc import Iterator

from herdwatch.operations.promote.endpoint import Endpoint
from herdwatch.operations.promote.observe import Seen


def cli(endpoint: Endpoint, *command: str) -> str:
    """A redis-cli command line, without any login."""
    where = f"-h {endpoint.host} -p {endpoint.port}" if endpoint.host else f"-s {endpoint}"
    tls = " --tls" if endpoint.cache.url.startswith("rediss://") else ""
    return f"redis-cli {where}{tls} {' '.join(command)}"


def applications(heir: Endpoint, old: Endpoint) -> str:
    """The first thing that comes next, whatever the way."""
    return f"point the applications, and the url in herdwatch.yaml, at {heir}: {old} takes no writes any more"


def crashed(old: Endpoint, heir: Endpoint, *, hung: bool) -> Iterator[str]:
    """What comes next where the old primary is taken for dead; one that is `hung` may wake up."""
    if hung:
        yield f"end the process of {old}, as with SIGKILL: if it wakes up it takes writes, and there are two primaries"
    yield f"point the applications, and the url in herdwatch.yaml, at {heir}"
    yield from returning(old, heir)


def roles(old: Seen, heir: Seen) -> Iterator[str]:
    """How both keep their roles over a restart."""
    for seen in (heir, old):
        if seen.text("config_file"):
            yield f"before {seen} is ever restarted: {cli(seen.endpoint, 'CONFIG', 'REWRITE')}"
    if not old.text("config_file"):
        address = f"{heir.endpoint.host} {heir.endpoint.port}"
        yield f"{old} has no configuration file: start it with --replicaof {address} from now on"


def returning(old: Endpoint, heir: Endpoint) -> Iterator[str]:
    """What must be done about a dead primary before it starts again."""
    yield f"stop the automatic restart of {old}: it would come back empty, or with old keys, and take writes"
    yield f"write replicaof {heir.host} {heir.port} into its configuration, start it, and give the restart back"
    yield f"is it back without that? {cli(old, 'REPLICAOF', heir.host, str(heir.port))}, or --demote here"
