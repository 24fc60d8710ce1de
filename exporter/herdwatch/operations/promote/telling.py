"""A plan and an outcome, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from herdwatch.operations.promote.model import Kind, Outcome, Plan, Status

_TITLES = {
    Kind.PLANNED: "Promote a replica of {} (planned, FAILOVER)",
    Kind.CRASH: "Promote a replica of {}, which is to be dead",
    Kind.SENTINEL: "Promote a replica of {} (through Sentinel)",
}


def as_text(found: Plan | Outcome) -> str:
    """What people read."""
    return "\n".join(_plan(found) if isinstance(found, Plan) else _outcome(found))


def as_json(found: Plan | Outcome) -> str:
    """The same for scripts."""
    if isinstance(found, Outcome):
        return json.dumps({**asdict(found), "changed": not found.already}, indent=2)
    data: dict[str, Any] = {
        "kind": found.request.kind,
        "former": str(found.request.primary),
        "primary": str(found.heir) if found.heir else None,
        "already": bool(found.done),
        "refused": [check.name for check in found.refused],
        "sentence": found.done,
        "checks": [asdict(check) for check in found.checks],
        "steps": list(found.steps),
        "next": list(found.after),
    }
    return json.dumps(data, indent=2)


def _plan(plan: Plan) -> Iterator[str]:
    yield _TITLES[plan.request.kind].format(plan.request.primary)
    if plan.done:
        yield f"  {plan.done}"
        return
    yield "\nchecks"
    for check in plan.checks:
        status = check.status.upper() if check.status is Status.REFUSED else check.status
        yield f"  {status:8} {check.name:12} {check.sentence}"
    if plan.steps:
        yield "\nsteps"
        yield from (f"  {number}. {step}" for number, step in enumerate(plan.steps, 1))
    if plan.after and not plan.refused:
        yield "\nand then you"
        yield from (f"  - {line}" for line in plan.after)


def _outcome(outcome: Outcome) -> Iterator[str]:
    yield f"{outcome.sentence}{'' if outcome.already else f' ({outcome.seconds:.1f} s)'}"
    if outcome.next:
        yield "next"
        yield from (f"  - {line}" for line in outcome.next)
