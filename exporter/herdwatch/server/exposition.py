"""Samples -> the text that Prometheus reads, in its own format or in OpenMetrics.

prometheus_client writes both, and took longer for it than all the rest of a scrape. What is written here is byte for
byte what it writes; a test compares them. It still writes what it collects itself, and the rarer ways to escape names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.requests import Request
from starlette.responses import Response

from herdwatch.collector import Scrape
from herdwatch.collector.families import families
from herdwatch.collector.info import Sample
from herdwatch.metrics import BY_NAME, Family

_OPENMETRICS = "application/openmetrics-text"
_END = "# EOF\n"
_RARE = ("escaping=dots", "escaping=values")
_REMEMBERED = 16_384
"""Beginnings of lines that are kept: those of one Redis, which all share, and of several hundred groups of reports."""


class _Ready(Collector):
    """Families that are already collected, in the form that prometheus_client's encoders read."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def answer(
    request: Request, *, own: Iterable[Sample] = (), process: Sequence[Metric] = (), scrape: Scrape | None = None
) -> Response:
    """The exporter's own samples, prometheus_client's families of this process, and a scrape, as the client asks."""
    encoder, content_type = choose_encoder(request.headers.get("accept", ""))
    if content_type.endswith(_RARE):
        body = encoder(_Ready([*families(own), *process, *([] if scrape is None else scrape.metrics())]))
    else:
        openmetrics = content_type.startswith(_OPENMETRICS)
        text = encode(own, openmetrics=openmetrics)
        text += encoder(_Ready(process)).decode().removesuffix(_END) if process else ""
        text += "" if scrape is None else text_of(scrape, openmetrics=openmetrics)
        body = (text + _END if openmetrics else text).encode()
    return Response(body, headers={"content-type": content_type})


def text_of(scrape: Scrape, *, openmetrics: bool = False) -> str:
    """A scrape as text; republished guard families leave the label `cache` to the target."""
    text = encode(scrape.samples, openmetrics=openmetrics)
    return text + encode(scrape.guard, drop=("cache",), openmetrics=openmetrics)


def text_of_metrics(metrics: Sequence[Metric]) -> str:
    """Families in Prometheus's own format, as prometheus_client writes them."""
    encoder, _ = choose_encoder("")
    return encoder(_Ready(metrics)).decode()


def encode(samples: Iterable[Sample], *, drop: tuple[str, ...] = (), openmetrics: bool = False) -> str:
    """Samples as text, by family in order of first appearance, without OpenMetrics' end; `drop` names labels."""
    found: dict[str, list[str]] = {}
    for name, values, value in samples:
        lines = found.get(name)
        if lines is None:
            lines = found[name] = [_head(name, openmetrics)]
        lines.append(f"{_beginning(name, drop, values)}{floatToGoString(value)}\n")  # type: ignore[no-untyped-call]
    return "".join("".join(lines) for lines in found.values())


@lru_cache(_REMEMBERED)
def _head(name: str, openmetrics: bool) -> str:
    family = BY_NAME[name]
    title, kind = _titled(family, openmetrics)
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        text = text.replace('"', r"\"")
    return f"# HELP {title} {text}\n# TYPE {title} {kind}\n"


def _titled(family: Family, openmetrics: bool) -> tuple[str, str]:
    """The name and type that head a family: OpenMetrics leaves off the suffix that its samples carry."""
    if openmetrics:
        return family.name.removesuffix("_total"), family.kind
    return family.sample, "gauge" if family.kind == "info" else family.kind


@lru_cache(_REMEMBERED)
def _beginning(name: str, drop: tuple[str, ...], values: tuple[str, ...]) -> str:
    family = BY_NAME[name]
    names = [label for label in family.labels if label not in drop]
    pairs = sorted(zip(names, values, strict=True))
    labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in pairs)
    return f"{family.sample}{{{labels}}} " if labels else f"{family.sample} "


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
