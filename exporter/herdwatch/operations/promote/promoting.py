"""One promotion from end to end: look, judge, carry out, verify."""

from __future__ import annotations

import time

from herdwatch.errors import CheckFailed, OperationError
from herdwatch.operations.promote import crash, demotion, planned, sentinel
from herdwatch.operations.promote.endpoint import Unreachable
from herdwatch.operations.promote.model import Check, Kind, Outcome, Plan, Request, Status, Step, Tell, silent
from herdwatch.operations.promote.verify import state

_SURVEYS = {Kind.PLANNED: planned.survey, Kind.CRASH: crash.survey, Kind.SENTINEL: sentinel.survey}
_RUNS = {Kind.PLANNED: planned.run, Kind.CRASH: crash.run, Kind.SENTINEL: sentinel.run}


def prepare(request: Request) -> Plan:
    """Look at all servers and judge them; changes nothing. Raises CheckFailed where one falls silent meanwhile."""
    try:
        return _SURVEYS[request.kind](request)
    except Unreachable as error:
        raise CheckFailed(f"not promoted, nothing was changed: {error}") from None


def promote(request: Request, *, tell: Tell = silent) -> Outcome:
    """Promote, after looking and judging anew; `tell` takes each step when it is done.

    Not to be called where an asyncio loop runs, but in a thread beside it. Raises CheckFailed where a check refuses
    and nothing was changed, OperationError where it did not come through, with the state that was left. What is done
    already is no error. After KeyboardInterrupt a failover under way has been rolled back, or is through.
    """
    found: list[Plan] = []
    try:
        return _promote(request, found, tell)
    except KeyboardInterrupt:
        tell(Step.ABORTED, f"interrupted: {_left(request, found)}")
        raise
    except Unreachable as error:
        raise OperationError(f"lost on the way: {error}; {_left(request, found)}; run again") from None


def _promote(request: Request, found: list[Plan], tell: Tell) -> Outcome:
    """The same; what was found goes into `found` as well, for those who must say what was left."""
    began = time.monotonic()
    _settle(request, tell)
    plan = prepare(request)
    found.append(plan)
    if plan.refused:
        raise CheckFailed(refusal(plan.refused))
    if plan.done and plan.heir is not None:
        return _outcome(plan, plan.done, plan.heir.total, began, already=True)
    warnings = [check for check in plan.checks if check.status in (Status.WARNS, Status.ALLOWED)]
    tell(Step.CHECKED, f"{len(plan.checks) - len(warnings)} checks passed")
    for check in warnings:
        tell(Step.CHECKED, f"{check.status} {check.name}: {check.sentence}")
    run = demotion.run if _is_demotion(plan) else _RUNS[request.kind]
    after, sentence = run(plan, tell)
    return _outcome(plan, sentence, after.total, began, primary=str(after))


def refusal(refused: tuple[Check, ...]) -> str:
    """Why nothing was done, on one line."""
    reasons = "; ".join(f"{check.name}: {check.sentence}" for check in refused)
    names = dict.fromkeys(check.name for check in refused if not check.final)
    override = f" (to promote all the same: {' '.join(f'--allow {name}' for name in names)})" if names else ""
    final = any(check.final for check in refused)
    return f"not promoted, nothing was changed: {reasons}{'' if final else override}"


def _settle(request: Request, tell: Tell) -> None:
    if request.kind is Kind.PLANNED:
        planned.settle(request, tell)
    elif request.kind is Kind.SENTINEL:
        sentinel.settle(request, tell)


def _left(request: Request, found: list[Plan]) -> str:
    heirs = [plan.heir.endpoint for plan in found if plan.heir is not None]
    return state({str(one): one for one in (request.primary, *request.replicas, *heirs)}.values())


def _is_demotion(plan: Plan) -> bool:
    if plan.old is None or plan.heir is None:
        return False
    return demotion.wanted(plan.request, plan.old, plan.heir)


def _outcome(
    plan: Plan, sentence: str, keys: int, began: float, *, primary: str = "", already: bool = False
) -> Outcome:
    before = plan.old or plan.heir
    return Outcome(
        kind=plan.request.kind,
        primary=primary or str(plan.heir),
        former=str(plan.request.primary),
        already=already,
        sentence=sentence,
        keys_before=before.total if before else 0,
        keys_after=keys,
        seconds=round(time.monotonic() - began, 3),
        checks=plan.checks,
        next=plan.after,
    )
