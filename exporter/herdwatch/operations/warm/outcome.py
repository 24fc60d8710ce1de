"""What a warm-up has done: key by key while it runs, and what there is to say of it at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from herdwatch.operations.warm.keys import Keys, reaches

MANY = 20
"""Keys, and more than half of them: so many without a value are no rows that were deleted."""
_FIRST = 5
_WARM = ("warm", "loaded", "shared")


@dataclass(slots=True)
class State:
    """How far it is. `warm` were so before, `shared` came from another process, `absent` are those without a value,
    `foreign` those that hold what the guard did not write. `failures` are by the type of what the loader raised,
    `unstorable` by that of what the guard raised for a value that came.

    `latency` is the median of the last loads in seconds; `waiting` while Redis does not answer. `came` has what came of
    each key that is dealt with: the name of its count.
    """

    target: int
    came: dict[str, str] = field(default_factory=dict)
    warm: int = 0
    loaded: int = 0
    shared: int = 0
    absent: int = 0
    foreign: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    unstorable: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    latency: float | None = None
    waiting: bool = False

    @property
    def failed(self) -> int:
        return self.failures.total() + self.unstorable.total()

    @property
    def done(self) -> int:
        """Keys dealt with, whatever came of it."""
        return self.warm + self.loaded + self.shared + self.absent + self.foreign + self.failed

    @property
    def carrying(self) -> set[str]:
        """Keys that are warm now."""
        return {key for key, came in self.came.items() if came in _WARM}

    def settle(self, key: str, came: str) -> None:
        self.came[key] = came
        setattr(self, came, getattr(self, came) + 1)

    def fail(self, key: str, came: str, error: BaseException) -> None:
        """One more of `failures` or `unstorable`. Its type alone is kept: a text may hold a secret of the database."""
        self.came[key] = came
        getattr(self, came)[type(error).__name__] += 1

    def first(self, came: str) -> list[str]:
        """The first few keys of which that came."""
        return list(islice((key for key, what in self.came.items() if what == came), _FIRST))

    def take_back(self, key: str) -> None:
        """It was warm, and is not any more."""
        came = self.came.pop(key)
        setattr(self, came, getattr(self, came) - 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: `stopped` is why it did not come to its end, empty where it did; `share` that of all lookups
    which the warm keys carry, None where nothing is known of lookups; `wanted` the one that was asked for.
    """

    state: State
    keys: Keys
    seconds: float
    share: float | None
    stopped: str = ""
    interrupted: bool = False
    wanted: float | None = None

    @property
    def short(self) -> bool:
        """Whether the warm keys carry less than was wanted."""
        return self.wanted is not None and self.share is not None and not reaches(self.share, self.wanted)

    @property
    def problems(self) -> list[str]:
        """Why it is no success, a sentence each."""
        if self.stopped:
            return [self.stopped]
        state, found = self.state, []
        for count, why in (
            (state.failures.total(), "the loader failed"),
            (state.unstorable.total(), "the guard cannot store their values"),
        ):
            if count:
                found.append(f"{count:,} keys are not warm because {why}")
        tried = state.loaded + state.absent + state.failed
        if _many(state.absent, tried):
            found.append(f"the loader returned None for {state.absent:,} of {tried:,} keys: is it the loader of these "
                         "keys, and does it return what it loads?")  # fmt: skip
        if _many(state.foreign, state.target):
            found.append(f"{state.foreign:,} of {state.target:,} keys hold no values of this guard")
        if self.short:
            found.append(f"{self.wanted:g} was wanted, {self.share:.1%} is reached")
        return found


def _many(count: int, of: int) -> bool:
    return count >= MANY and count * 2 > of
