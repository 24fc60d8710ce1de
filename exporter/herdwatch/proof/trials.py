"""Incidents under a rule set: which alerts fire when.

Our rules say everything by cache, so that incidents of single caches can share a play and its cost, each in a cache of
its own. Other rule sets may add up what they see, so there each incident has a play of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from herdwatch.bundle.render import RULES, render_bundle
from herdwatch.bundle.rules import load as load_rules_of
from herdwatch.config import Config, parse
from herdwatch.errors import CheckFailed
from herdwatch.promtool import Promtool
from herdwatch.proof.catalogue import INCIDENTS
from herdwatch.proof.incident import Incident, Urgency
from herdwatch.proof.names import translate
from herdwatch.proof.parallel import parallel
from herdwatch.proof.player import Player
from herdwatch.proof.plays import Firing, Play
from herdwatch.proof.recordings.load import Recording, recordings
from herdwatch.proof.world import World

RECORDED_SCRAPES = 28
"""Scrapes within which a recording must be told: the longest `for` and what precedes it."""

TOGETHER = 16
"""Incidents in one play: more would make it long to wait for the last."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One incident at one scrape interval and phase, and what fired.

    `zero` is when it began, `known` when that could be known and `seconds` when it ended, in seconds of the play.
    `series` are the labels, `__name__` among them, of what the rules of others were played on.
    """

    incident: Incident
    interval: int
    phase: int
    zero: int
    known: int
    seconds: int
    firings: tuple[Firing, ...]
    series: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Whose rules are tried: those of our bundle, or files and the names by which they know the metrics."""

    name: str
    files: tuple[Path, ...] = ()
    names: str = "herdwatch"

    @property
    def ours(self) -> bool:
        """True for the bundle's own rules, which are rendered for the caches of each play."""
        return not self.files


def evaluation(interval: int) -> int:
    """Seconds between two evaluations: the bundle's five where scrapes are frequent, fewer evaluations where not."""
    return 5 * max(1, interval // 20)


def configuration(worlds: Iterable[World], interval: int) -> Config:
    """The bundle's configuration for the caches of some worlds."""
    caches = [cache for world in worlds for cache in world.caches if cache.configured]
    blocks = [
        {"name": cache.name, "url": f"redis://{cache.nodes[0].instance}", "team": cache.team}
        | ({"database": cache.database} if cache.database else {})
        for cache in caches
    ]
    databases = {cache.database: {"capacity": cache.capacity, "peak": cache.peak} for cache in caches if cache.database}
    spare = {"name": "not-in-a-play", "url": "redis://127.0.0.1"}
    content = {"scrape_interval": f"{interval}s", "caches": blocks or [spare], "databases": databases}
    return parse(yaml.safe_dump(content), "the catalogue's herdwatch.yaml")


def run(
    rules: RuleSet,
    incidents: Sequence[Incident],
    *,
    promtool: Promtool,
    interval: int,
    phases: Sequence[int],
    step: int | None = None,
    done: Callable[[int], None] = lambda _: None,
) -> list[Trial]:
    """Try incidents, number n of the catalogue at phase n of `phases` in turn; `done` hears how many more are through.

    `step` is the time between two evaluations in seconds, by default what the interval deserves.
    """
    phase = {one.name: phases[n % len(phases)] for n, one in enumerate(INCIDENTS)}
    told = parallel(
        lambda job: _try(rules, job, promtool, interval, step or evaluation(interval)),
        _batches(rules, [(one, phase[one.name]) for one in incidents]),
        give_up=[promtool.stop],
        done=lambda trials: done(len(trials)),
    )
    found = {trial.incident.name: trial for trials in told for trial in trials}
    return [found[incident.name] for incident in incidents]


def run_recordings(*, promtool: Promtool, done: Callable[[int], None] = lambda _: None) -> list[Trial]:
    """Try our rules on what was recorded from real servers, each recording by itself."""
    return parallel(
        lambda one: _try_recording(one, promtool), recordings(), give_up=[promtool.stop], done=lambda _: done(1)
    )


def _try_recording(recording: Recording, promtool: Promtool) -> Trial:
    rules = render_bundle(parse(recording.configuration(), f"the herdwatch.yaml of {recording.name}"))[RULES]
    with tempfile.TemporaryDirectory(prefix="herdwatch-rules-") as folder:
        path = Path(folder) / RULES.name
        path.write_text(rules, encoding="utf-8")
        firings = Player(promtool, [path]).play(recording.play())
    declared = [rule for rule in load_rules_of(rules, RULES.name) if rule.is_alert and rule.name in recording.told]
    told = {rule.labels.get("severity") for rule in declared}
    urgency: Urgency = "page" if "critical" in told else "ticket" if told else "calm"
    incident = Incident(recording.name, "recorded", _recorded, urgency, recording.told, RECORDED_SCRAPES, True)
    interval, zero = recording.scrape_interval, recording.zero
    return Trial(incident, interval, zero % interval, zero, zero, recording.seconds, firings)


def _recorded(world: World) -> Iterator[float]:
    raise CheckFailed(f"{world.prefix} was recorded and cannot be run")
    yield 0.0


Job = Sequence[tuple[Incident, int]]


def _batches(rules: RuleSet, jobs: Sequence[tuple[Incident, int]]) -> Iterator[Job]:
    shared = [job for job in jobs if rules.ours and not job[0].alone]
    count = -(-len(shared) // TOGETHER)
    yield from (shared[start::count] for start in range(count))
    yield from ([job] for job in jobs if job not in shared)


def _try(rules: RuleSet, job: Job, promtool: Promtool, interval: int, step: int) -> list[Trial]:
    worlds = [(incident, incident.happen(interval=interval, phase=phase)) for incident, phase in job]
    plays = [world.play(incident.name) for incident, world in worlds]
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], object] = {}
    series = [
        one
        for play in plays
        for one in translate(play.series, rules.names)
        if seen.setdefault((one.name, tuple(sorted(one.labels.items()))), one) is one
    ]
    together = Play(", ".join(play.name for play in plays), series, max(play.seconds for play in plays))
    with tempfile.TemporaryDirectory(prefix="herdwatch-rules-") as folder:
        files = rules.files
        if rules.ours:
            config = configuration((world for _, world in worlds), interval)
            files = (Path(folder) / RULES.name,)
            files[0].write_text(render_bundle(config)[RULES], encoding="utf-8")
        firings = Player(promtool, files, evaluation=step).play(together)
    played = () if rules.ours else tuple({"__name__": one.name, **one.labels} for one in series)
    return [
        Trial(
            incident,
            interval,
            world.phase,
            world.zero,
            world.known,
            world.now,
            _of(world, firings, len(worlds)),
            played,
        )
        for incident, world in worlds
    ]


def _of(world: World, firings: Iterable[Firing], worlds: int) -> tuple[Firing, ...]:
    """What fired about the caches of a world before it ended."""
    mine = {cache.name for cache in world.caches} | {"unlabelled"}
    return tuple(
        replace(seen, end=seen.end if seen.end and seen.end < world.now else None)
        for one in firings
        if one.start < world.now and (worlds == 1 or one.labels.get("cache") in mine)
        if (seen := _outside_gaps(one, world)) is not None
    )


def _outside_gaps(firing: Firing, world: World) -> Firing | None:
    """promtool evaluates also while Prometheus is away; what fires then is real if it outlives the next scrape.

    So it does before the first scrape of all.
    """
    for begin, end in [(0, world.interval), *world.gaps]:
        back = end + world.interval
        if begin <= firing.start <= back:
            return replace(firing, start=back) if firing.end is None or firing.end > back + world.interval else None
    return firing
