"""The planned way: FAILOVER TO, watched until it is through or rolled back.

Source: the Redis command reference, FAILOVER. Its TIMEOUT bounds the waiting for the replica alone. While the primary
hands over (failover-in-progress) it tries for ever, with all writes waiting, until somebody says FAILOVER ABORT. Said
after the replica has taken over that would make two primaries, so the replica is asked first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from herdwatch.collector.resp import ReplyError
from herdwatch.errors import OperationError
from herdwatch.operations.promote.endpoint import Endpoint, Unreachable
from herdwatch.operations.promote.model import Step, Tell
from herdwatch.operations.promote.observe import Seen, look, words
from herdwatch.operations.promote.verify import EVERY, cut_loose, glance, state, until

HANDOVER = 5.0
"""Seconds for the handing over, after the replica has everything."""
TRIES = 4
"""Looks in a row that must fail before a primary is taken for gone."""
ARRIVES = 0.3
"""Seconds for a FAILOVER that was interrupted on its way to a primary which answers."""
_BRIEF = 1.0


@dataclass(frozen=True, slots=True)
class Handover:
    """One failover of the process `run_id`; without an `heir` it is whomever the primary hands over to."""

    old: Endpoint
    heir: Endpoint | None
    run_id: str
    tell: Tell

    def run(self, target: tuple[str, int], timeout: float) -> Seen:
        """Say FAILOVER TO the replica, by the primary's name for it, and `settle`; `timeout` is in seconds.

        Raises OperationError where Redis refuses, and then nothing was changed.
        """
        try:
            self._start(target, timeout)
            return self._settle(time.monotonic() + timeout + HANDOVER)
        except KeyboardInterrupt:
            self._recall()
            raise

    def settle(self, seconds: float) -> Seen:
        """Wait until no failover runs; gives the old primary, as a replica if it is through.

        Raises OperationError where it was rolled back or where the primary is gone; the message says what was left.
        """
        try:
            return self._settle(time.monotonic() + seconds)
        except KeyboardInterrupt:
            self._recall()
            raise

    def _start(self, target: tuple[str, int], timeout: float) -> None:
        host, port = target
        try:
            reply = self.old.ask(("FAILOVER", "TO", host, port, "TIMEOUT", max(1, int(timeout * 1000))))[0]
        except Unreachable:
            return  # it may have arrived; what became of it is seen by `_settle`
        if isinstance(reply, ReplyError):
            raise OperationError(f"{self.old} refuses FAILOVER: {words(reply)}; nothing was changed")
        self.tell(Step.STARTED, f"FAILOVER was said to {self.old}; writes wait until its heir has everything")

    def _settle(self, deadline: float) -> Seen:
        failures, told = 0, False
        while True:
            seen = glance(self.old, patience=_BRIEF)
            failures = 0 if seen else failures + 1
            if failures >= TRIES or (seen and seen.run_id != self.run_id):
                raise self._gone()
            if seen is not None and not seen.failing_over:
                return seen
            if seen is not None and seen.is_replica and not told:
                told = True
                self.tell(Step.HANDING_OVER, f"{self.old} has stepped down and hands over to {seen.leader}")
            if time.monotonic() > deadline and seen is not None:
                return self._overdue()
            time.sleep(EVERY)

    def _overdue(self) -> Seen:
        self._abort("overdue")
        if until(lambda: not look(self.old).failing_over, HANDOVER):
            return look(self.old)
        raise OperationError(f"the failover does not end, and FAILOVER ABORT does not help: {self._left()}")

    def _recall(self) -> None:
        """Roll back what was interrupted, also where it was said and is still on its way to the primary."""
        until(lambda: glance(self.old, patience=_BRIEF) is not None, HANDOVER)
        until(self._runs, ARRIVES)
        self._abort("interrupted")

    def _runs(self) -> bool:
        seen = glance(self.old, patience=_BRIEF)
        return seen is None or seen.failing_over or seen.is_replica

    def _abort(self, why: str) -> None:
        """Roll back, unless the replica is a primary already: then the old one is about to follow it.

        A primary that does not answer is told all the same; where no failover runs that changes nothing.
        """
        seen = glance(self.old, patience=_BRIEF)
        if (seen is not None and not seen.failing_over) or self._taken_over(seen):
            return
        try:
            self.old.ask(("FAILOVER", "ABORT"))
        except Unreachable:
            advice = "a failover may run there, and FAILOVER ABORT ends it"
            self.tell(Step.ABORTED, f"{why}: {self.old} does not answer; {advice}")
            return
        self.tell(Step.ABORTED, f"{why}: FAILOVER ABORT was said to {self.old}")

    def _taken_over(self, old: Seen | None) -> bool:
        """Whether the replica is a primary already; while the old one takes writes it cannot be."""
        leader = self.heir
        if old is not None and not old.is_replica:
            return False
        if leader is None and old is not None:
            leader = self.old.at(old.text("master_host"), old.number("master_port"))
        heir = glance(leader, patience=_BRIEF) if leader is not None else None
        return heir is not None and heir.is_primary

    def _gone(self) -> OperationError:
        """The primary died or was restarted on the way. Its replica is cut loose where it would be wiped else."""
        heir = glance(self.heir) if self.heir is not None else None
        if heir is not None and heir.is_replica and self._in_danger(heir):
            return self._rescue(heir)
        if glance(self.old) is not None:
            return OperationError(f"{self.old} was restarted during the failover: {self._left()}; run again")
        advice = "" if heir is not None and heir.is_primary else "; if it is dead, herdwatch promote --crash goes on"
        return OperationError(f"{self.old} was lost during the failover: {self._left()}{advice}")

    def _rescue(self, heir: Seen) -> OperationError:
        try:
            cut_loose(heir.endpoint)
        except OperationError as error:
            advice = f"keep {self.old} from starting empty, or it wipes {heir}"
            return OperationError(f"{self.old} died during the failover, and {error}; {advice}")
        self.tell(Step.CUT_LOOSE, f"{heir} was cut loose, so that an empty {self.old} cannot wipe it")
        return OperationError(
            f"{self.old} died during the failover and {heir} was promoted instead: {self._left()}; "
            f"start {self.old} as its replica"
        )

    def _in_danger(self, heir: Seen) -> bool:
        """Whether the old process has surely ended, and the replica holds what a new one has not."""

        def ended() -> bool:
            try:
                seen = look(self.old, patience=_BRIEF)
            except Unreachable as error:
                now = glance(heir.endpoint)
                return error.why == "refused" and now is not None and not now.linked
            return seen.run_id != self.run_id and seen.total < heir.total

        return heir.total > 0 and until(ended, HANDOVER)

    def _left(self) -> str:
        return state((self.old, *([self.heir] if self.heir is not None else [])))


def adopt(old: Seen, heir: Endpoint | None, seconds: float, tell: Tell) -> None:
    """Wait for a failover that somebody else began, such as a run of ours that was killed; end it if it hangs."""
    tell(Step.STARTED, f"a failover of {old} is under way already; waiting for it")
    Handover(old.endpoint, heir, old.run_id, tell).settle(seconds)
