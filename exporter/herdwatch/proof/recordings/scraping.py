"""A scraper as a process of its own: it gets every target once an interval and keeps what Prometheus would store.

It is told by a JSON file and answers with a file of lines, so that nothing which holds up the recorder delays a scrape.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TextIO

from prometheus_client.parser import text_string_to_metric_families

from herdwatch import metrics
from herdwatch.errors import StackError
from herdwatch.proof.recordings.load import rendered
from herdwatch.stack import http

LEFT_OUT = {"cache_hit_ratio", "cache_collector_duration_seconds"}
"""Never the same twice, and no rule reads them: one is for display, the other the exporter's own time."""
KEPT = {
    family.sample
    for family in metrics.PROBE + metrics.REDIS + metrics.KEY_GROUPS + metrics.REPUBLISHED
    if family.name not in LEFT_OUT
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a target is scraped, and at which second first."""

    url: str
    first: int


@dataclass(frozen=True, slots=True)
class Job:
    """What to scrape every `interval` seconds into the file `output`."""

    interval: int
    targets: list[Address]
    output: str

    def write(self, path: Path) -> None:
        """Write it for `main`."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Got:
    """One scrape: of which target, the seconds since the begin at which it was due, and how late it began.

    `samples` is None when it failed.
    """

    target: int
    at: int
    late: float
    samples: Mapping[str, float] | None


def scrape(url: str, seconds: float) -> dict[str, float] | None:
    """The samples that are kept, by series; None when the target does not answer as one should."""
    try:
        status, text = http.get(url, seconds=seconds, headers={"X-Prometheus-Scrape-Timeout-Seconds": f"{seconds:g}"})
    except StackError:
        return None
    if status != 200:
        return None
    return {
        rendered(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in KEPT
    }


def begun(path: Path) -> int | None:
    """Second 0 in Unix seconds; None before there is one."""
    lines = _lines(path)
    return int(lines[0]) if lines else None


def results(path: Path) -> list[Got]:
    """What has been written so far."""
    return [Got(*json.loads(line)) for line in _lines(path)[1:]]


def _lines(path: Path) -> list[str]:
    # The last line may be half written.
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def _follow(job: Job, begin: int, number: int, output: TextIO, turn: threading.Lock) -> None:
    target = job.targets[number]
    for at in count(target.first, job.interval):
        due = begin + at
        time.sleep(max(0.0, due - time.time()))
        late = time.time() - due
        samples = scrape(target.url, job.interval - 0.2)
        with turn:
            output.write(json.dumps([number, at, round(late, 3), samples]) + "\n")
            output.flush()


def main() -> None:
    """Scrape until ended; the argument is the file of the job."""
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    job = Job(**{**data, "targets": [Address(**one) for one in data["targets"]]})
    turn = threading.Lock()
    with Path(job.output).open("a", encoding="utf-8") as output:
        # Chosen here, so that no time that this process took to start makes the first scrapes late.
        begin = int(time.time()) + 1
        output.write(f"{begin}\n")
        output.flush()
        threads = [
            threading.Thread(target=_follow, args=(job, begin, number, output, turn), daemon=True)
            for number in range(len(job.targets))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
