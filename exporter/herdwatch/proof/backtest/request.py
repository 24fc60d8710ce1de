"""What is asked of a backtest: which rules, from when to when, of which caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from herdwatch.bundle.render import RULES, render_bundle
from herdwatch.config import Config, read
from herdwatch.errors import UsageError

ALERTMANAGER = RULES.with_name("alertmanager.yml")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: the rules in a text, from `since` up to, without, `until` in seconds since 1970.

    `configured` are the caches that should have a history; `own` says that the rules are the bundle's, which may read
    what nobody exports. `source` is what errors call the rules. `caches` narrow it to some. `alertmanager` is the
    text of the configuration that says what becomes of alerts; None groups by cache, team and severity.
    """

    since: int
    until: int
    rules: str
    source: str
    evaluation: int = 15
    caches: Sequence[str] = ()
    configured: Sequence[str] = ()
    own: bool = True
    alertmanager: str | None = None


def of_config(config: Config, period: tuple[int, int], evaluation: int, *, caches: Sequence[str] = ()) -> Request:
    """The rules and the routing of a herdwatch.yaml; raises UsageError where it does not know one of `caches`."""
    known = [cache.name for cache in config.caches]
    for name in caches:
        if name not in known:
            raise UsageError(f"--cache: the configuration has no {name!r}; there is: {', '.join(known)}")
    kept = tuple(cache for cache in config.caches if not caches or cache.name in caches)
    bundle = render_bundle(config.model_copy(update={"caches": kept}))
    return Request(
        *period,
        rules=bundle[RULES],
        source=str(RULES),
        evaluation=evaluation,
        caches=caches,
        configured=[cache.name for cache in kept],
        alertmanager=bundle[ALERTMANAGER],
    )


def of_rules(path: Path, period: tuple[int, int], evaluation: int, *, caches: Sequence[str] = ()) -> Request:
    """The rules of any file; raises ConfigError where it cannot be read."""
    text = read(path, missing="it is what --rules names")
    return Request(*period, rules=text, source=str(path), evaluation=evaluation, caches=caches, own=False)
