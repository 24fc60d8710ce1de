"""The recordings: what one of them says, how it is read from its file and written to it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from herdwatch.errors import CheckFailed
from herdwatch.proof.plays import Play, Series
from herdwatch.proof.recordings import values

VERSION = 1
FOLDER = Path(__file__).with_name("data")

_SAMPLE = re.compile(r"([a-z_]+)(?:\{(.*)\})?")
_LABEL = re.compile(r"([a-z_]+)=\"([^\"\\]*)\"")


@dataclass(frozen=True, slots=True)
class RecordedCache:
    """A cache of a recording, as herdwatch.yaml would name it. `database` is the name of what stands behind it."""

    name: str
    team: str
    database: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a scraper got from one target: `labels` are the target's own, `series` the values by name and own labels.

    `first` is the second of the first scrape.
    """

    labels: Mapping[str, str]
    first: int
    series: Mapping[str, values.Values]


@dataclass(frozen=True, slots=True)
class Recording:
    """One incident or calm time of real servers. Times are seconds from the begin, when the first scrapes come.

    `zero` is when it happened, `told` the alerts that should fire because of it (none, and nobody should be told),
    `capacity` what the database behind the caches takes and `peak` what they get at most, in requests a second: three
    times as much where that is not said.
    """

    name: str
    about: str
    scrape_interval: int
    zero: int
    seconds: int
    caches: tuple[RecordedCache, ...]
    told: tuple[str, ...]
    versions: Mapping[str, str | int]
    targets: tuple[Target, ...]
    capacity: float | None = None
    peak: float | None = None

    def play(self) -> Play:
        """The series with the labels of their targets and the stale markers that Prometheus would have stored."""
        return Play(self.name, [one for target in self.targets for one in self._series(target)], self.seconds)

    def configuration(self) -> str:
        """A herdwatch.yaml that lists these caches, for the rules that watch them."""
        caches = [
            {"name": one.name, "team": one.team, "url": f"redis://{self._instance(one)}"}
            | ({} if one.database is None else {"database": one.database})
            for one in self.caches
        ]
        data: dict[str, object] = {"scrape_interval": f"{self.scrape_interval}s", "caches": caches}
        databases = {one.database for one in self.caches if one.database is not None}
        if self.capacity is not None:
            peak = self.peak or 3 * self.capacity
            data["databases"] = {name: {"capacity": self.capacity, "peak": peak} for name in databases}
        return json.dumps(data)

    def _instance(self, cache: RecordedCache) -> str:
        return next(one.labels["instance"] for one in self.targets if one.labels.get("cache") == cache.name)

    def _series(self, target: Target) -> Iterator[Series]:
        for text, numbers in target.series.items():
            name, own = named(text)
            stored = values.points(numbers, target.first, self.scrape_interval)
            yield Series(name, {**target.labels, **own}, stored)


def recordings(folder: Path = FOLDER) -> list[Recording]:
    """Every recording of a folder, in the order of their names; raises CheckFailed naming the file that is none."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def read(path: Path) -> Recording:
    """The recording of one file; raises CheckFailed naming the file and what is wrong with it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["versions"]["recording"] != VERSION:
            raise ValueError(f"it is of version {data['versions']['recording']!r}, this is version {VERSION}")
        return _recording(data)
    except OSError as error:
        raise CheckFailed(f"{path}: cannot be read: {error.strerror}") from None
    except KeyError as error:
        raise CheckFailed(f"{path}: is no recording: it lacks {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckFailed(f"{path}: is no recording: {error}") from None


def write(recording: Recording, folder: Path) -> Path:
    """Write `<name>.json`, one line a series; returns its path. OSError is the caller's."""
    data: dict[str, Any] = {
        "name": recording.name,
        "about": recording.about,
        "versions": dict(recording.versions),
        "scrape_interval": recording.scrape_interval,
        "zero": recording.zero,
        "seconds": recording.seconds,
        "caches": [_without_none(name=one.name, team=one.team, database=one.database) for one in recording.caches],
        **_without_none(capacity=recording.capacity, peak=recording.peak),
        "told": list(recording.told),
        "targets": [
            {
                "labels": dict(target.labels),
                "first": target.first,
                "series": {name: values.encode(numbers) for name, numbers in sorted(target.series.items())},
            }
            for target in recording.targets
        ],
    }
    path = folder / f"{recording.name}.json"
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def named(text: str) -> tuple[str, dict[str, str]]:
    """Name and labels of `name{label="value"}`; raises ValueError where it is none."""
    match = _SAMPLE.fullmatch(text)
    labels = dict(_LABEL.findall(match[2] or "")) if match else {}
    if match is None or text != rendered(match[1], labels):
        raise ValueError(f'{text!r} is no series: one reads name{{label="value"}}')
    return match[1], labels


def rendered(name: str, labels: Mapping[str, str]) -> str:
    """What `named` reads as this name and these labels; values hold no quotes and no backslashes."""
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inside}}}" if inside else name


def _recording(data: Mapping[str, Any]) -> Recording:
    zero, seconds = data["zero"], data["seconds"]
    if not 0 < zero < seconds:
        raise ValueError(f"zero is {zero}, which is not inside its {seconds} seconds")
    return Recording(
        name=data["name"],
        about=data["about"],
        scrape_interval=data["scrape_interval"],
        zero=data["zero"],
        seconds=data["seconds"],
        caches=tuple(RecordedCache(**one) for one in data["caches"]),
        told=tuple(data["told"]),
        versions=data["versions"],
        targets=tuple(_targets(data["targets"])),
        capacity=data.get("capacity"),
        peak=data.get("peak"),
    )


def _targets(found: Sequence[Mapping[str, Any]]) -> Iterator[Target]:
    for number, one in enumerate(found):
        series = {}
        for name, text in one["series"].items():
            named(name)
            try:
                series[name] = values.decode(text)
            except ValueError as error:
                raise ValueError(f"targets[{number}], {name}: {error}") from None
            if len(series[name]) != len(next(iter(series.values()))):
                raise ValueError(f"targets[{number}], {name}: has {len(series[name])} values, others have more or less")
        yield Target(one["labels"], one["first"], series)


def _without_none(**items: object) -> dict[str, object]:
    return {name: value for name, value in items.items() if value is not None}
