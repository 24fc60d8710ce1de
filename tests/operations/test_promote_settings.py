"""A replica's own settings count once it is the primary; and the old primary must be let in there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from herdwatch.errors import CheckFailed
from herdwatch.operations.promote import Check, Kind, Name, Request, Status, of_url, prepare, promote
from herdwatch.stack import RedisServer

Ask = Callable[..., Request]
SECRET = "hunter2"


def checks(request: Request) -> list[Check]:
    found = list(prepare(request).checks)
    assert SECRET not in repr(found)
    return found


def one(request: Request, name: Name) -> Check:
    (found,) = [check for check in checks(request) if check.name is name]
    return found


def configure(server: RedisServer, password: str | None = None, **settings: object) -> None:
    with server.client(password=password) as client:
        for name, value in settings.items():
            client.config_set(name.replace("_", "-"), str(value))


@pytest.mark.parametrize("kind", [Kind.PLANNED, Kind.CRASH])
def test_an_heir_that_would_take_no_write_for_want_of_replicas_is_refused(town: Any, ask: Ask, kind: Kind) -> None:
    old, heir = town.pair()
    wanted = {Kind.PLANNED: 2, Kind.CRASH: 1}[kind]
    configure(heir, min_replicas_to_write=wanted)
    if kind is Kind.CRASH:
        old.kill()
    with pytest.raises(CheckFailed, match=f"{heir.address} wants {wanted} replicas before it takes a write"):
        promote(ask(old, heir, kind=kind))
    promote(ask(old, heir, kind=kind, allow=frozenset({Name.REPLICAS})))
    with heir.client() as client, pytest.raises(ResponseError, match="NOREPLICAS"):
        client.set("written", "1")


def test_an_heir_that_will_have_its_replicas_is_not_refused(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    configure(heir, min_replicas_to_write=1)
    assert promote(ask(old, heir)).primary == heir.address
    with heir.client() as client:
        assert client.set("written", "1")


def test_how_many_replicas_are_wanted_may_not_be_seen(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    configure(heir, min_replicas_to_write=2)
    with heir.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    found = [check for check in checks(ask(old, heir)) if check.name is Name.REPLICAS]
    assert [check.status for check in found] == [Status.WARNS, Status.OK]
    assert "how many is not seen" in found[0].sentence


def test_an_heir_with_another_limit_or_policy_is_told_of(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    assert one(ask(old, heir), Name.MEMORY).status is Status.OK
    configure(old, maxmemory=50_000_000, maxmemory_policy="allkeys-lru")
    found = one(ask(old, heir), Name.MEMORY)
    assert found.status is Status.WARNS
    assert "maxmemory none and noeviction" in found.sentence
    assert "50000000 and allkeys-lru" in found.sentence
    configure(heir, maxmemory=50_000_000)
    assert one(ask(old, heir), Name.MEMORY).status is Status.WARNS
    configure(heir, maxmemory_policy="allkeys-lru")
    assert one(ask(old, heir), Name.MEMORY).status is Status.OK


def test_an_heir_without_persistence_is_told_of(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    configure(old, save="3600 1")
    told = [check.sentence for check in checks(ask(old, heir)) if check.name is Name.PERSISTENCE]
    assert f"or it comes back empty and wipes {old.address}" in told[1]
    configure(heir, save="3600 1")
    assert one(ask(old, heir), Name.PERSISTENCE).status is Status.OK


def keyed(town: Any) -> tuple[RedisServer, RedisServer, Request]:
    old, heir = town.pair()
    for server in (old, heir):
        configure(server, requirepass=SECRET)
    url = of_url("--url", f"redis://:{SECRET}@{old.address}")
    return old, heir, Request(Kind.PLANNED, url, (url.at("127.0.0.1", heir.port),))


def test_the_masterauth_of_the_old_primary_is_tried_at_the_heir(town: Any) -> None:
    old, heir, request = keyed(town)
    configure(old, SECRET, masterauth="wrong")
    with pytest.raises(CheckFailed, match=f"password: {heir.address} does not take the masterauth of {old.address}"):
        promote(request)
    configure(old, SECRET, masterauth=SECRET)
    assert "takes the masterauth" in one(request, Name.PASSWORD).sentence
    assert promote(request).primary == heir.address


def test_a_masteruser_needs_what_a_replica_says_first(town: Any) -> None:
    old, heir, request = keyed(town)
    with heir.client(password=SECRET) as client:
        client.execute_command("ACL", "SETUSER", "copier", "on", ">other", "+ping")
    configure(old, SECRET, masteruser="copier", masterauth="other")
    found = one(request, Name.PASSWORD)
    assert (found.status, "lacks +ping +replconf +psync" in found.sentence) == (Status.REFUSED, True)
    with heir.client(password=SECRET) as client:
        client.execute_command("ACL", "SETUSER", "copier", "+replconf", "+psync")
    assert promote(request).primary == heir.address


def test_a_masterauth_for_an_heir_without_a_password_is_refused(town: Any, ask: Ask) -> None:
    old, heir = town.pair()
    configure(old, masterauth=SECRET)
    assert one(ask(old, heir), Name.PASSWORD).status is Status.REFUSED


def test_a_masterauth_that_may_not_be_seen_is_told(town: Any) -> None:
    old, _, request = keyed(town)
    with old.client(password=SECRET) as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    found = one(request, Name.PASSWORD)
    assert (found.status, "as masterauth is not seen" in found.sentence) == (Status.WARNS, True)
