"""templates + configuration -> the whole bundle, in memory first and on disk only when all of it is right."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from herdwatch.bundle import promql, rules
from herdwatch.bundle.dashboards import grafana
from herdwatch.bundle.location import CONTENT_ROOMS, bundle_root
from herdwatch.bundle.pages import lead
from herdwatch.bundle.targets import target_groups
from herdwatch.bundle.templates import SUFFIX, environment, render
from herdwatch.bundle.windows import Windows
from herdwatch.config import Config, Overrides, schema
from herdwatch.errors import UsageError

Bundle = Mapping[PurePosixPath, str]
"""Path below the bundle's root -> text."""

RULES = PurePosixPath("alerts/herdwatch.rules.yml")
_EVERYWHERE = ("0.0.0.0", "[::]")  # noqa: S104 - to be refused


def render_bundle(config: Config) -> dict[PurePosixPath, str]:
    """Render everything, in the order of its paths.

    Raises CheckFailed naming the template that is wrong, and UsageError where nobody could ask the exporter.
    """
    if config.exporter_address.rpartition(":")[0] in _EVERYWHERE:
        raise UsageError(
            f"exporter.listen: {config.exporter.listen} is no address that Prometheus or people can ask; "
            "say in prometheus.exporter_access.address, as HOST:PORT, where they reach the exporter"
        )
    values = _values(config)
    bundle = {
        path: _finish(path, text, config) for room in ("alerts", "dashboards") for path, text in _room(room, values)
    }
    names = dict.fromkeys(rule.name for rule in rules.load(bundle[RULES], str(RULES)) if rule.is_alert)
    # The index tells what each page says in its first sentence, so the pages are made before it.
    pages = dict(_room("runbooks", {**values, "alerts": {}}))
    leads = {name: lead(pages.get(PurePosixPath(f"runbooks/{name}.md"), ""), f"runbooks/{name}.md") for name in names}
    bundle.update(_room("runbooks", {**values, "alerts": leads}))
    bundle[PurePosixPath(schema.FILE)] = schema.text()
    return dict(sorted(bundle.items()))


def _values(config: Config) -> dict[str, object]:
    return {
        "config": config,
        "windows": Windows.of(config.scrape_interval),
        "targets": target_groups(config, config.exporter_address),
        "exporter_url": config.exporter_url,
        "tls_caches": [cache.name for cache in config.caches if cache.url.startswith("rediss:")],
        "alerts_with_thresholds": tuple(Overrides.model_fields),
    }


def _room(room: str, values: Mapping[str, object]) -> Iterator[tuple[PurePosixPath, str]]:
    folder = bundle_root() / room / "templates"
    templates = environment(folder)
    for name in sorted(templates.list_templates()):
        if not name.startswith("_") and name.endswith(SUFFIX):
            path = _output_path(room, name.removesuffix(SUFFIX))
            yield path, _header(path, room, name) + render(templates, name, **values)


def _output_path(room: str, name: str) -> PurePosixPath:
    if room == "dashboards":
        provisioning = name.removeprefix("provisioning-")
        name = f"provisioning/{provisioning}" if provisioning != name else name.removesuffix(".yml") + ".json"
    elif room == "runbooks" and name == "index.md":
        name = "README.md"
    return PurePosixPath(room) / name


def _header(path: PurePosixPath, room: str, template: str) -> str:
    sentence = f"Rendered from {room}/templates/{template}; change that, then run: herdwatch render"
    return f"<!-- {sentence} -->\n" if path.suffix == ".md" else f"# {sentence}\n"


def _finish(path: PurePosixPath, text: str, config: Config) -> str:
    """What follows the template: rules must parse, expression by expression; a dashboard becomes Grafana's JSON."""
    if path == RULES:
        for rule in rules.load(text, str(path)):
            promql.parse(rule.expr, f"{path}:{rule.line}: {rule.name}")
    if path.suffix == ".json":
        return grafana.build(text, str(path), runbook_base_url=config.links.runbook_base_url)
    return text


def stale(bundle: Bundle, root: Path) -> list[str]:
    """What differs between a rendered bundle and the files below `root`, a sentence each; empty when nothing does."""
    problems = []
    for path, text in bundle.items():
        try:
            found = (root / path).read_bytes().decode("utf-8", "replace")
        except OSError:
            problems.append(f"{path}: is missing; run: herdwatch render")
            continue
        if found != text:
            line = next(
                (n for n, (a, b) in enumerate(zip(found.split("\n"), text.split("\n"), strict=False), 1) if a != b),
                min(found.count("\n"), text.count("\n")) + 1,
            )
            problems.append(f"{path}:{line}: differs from its template; run: herdwatch render")
    return [*problems, *(f"{path}: has no template; remove it" for path in _strays(bundle, root))]


def _strays(bundle: Bundle, root: Path) -> Iterator[PurePosixPath]:
    for room in CONTENT_ROOMS:
        for file in sorted((root / room).rglob("*")):
            path = PurePosixPath(file.relative_to(root).as_posix())
            made = not {"templates", "tests"} & set(path.parts[:-1])
            if file.is_file() and made and path not in bundle:
                yield path


def write(bundle: Bundle, root: Path) -> list[Path]:
    """Write what has changed; returns those paths. Raises UsageError, with nothing changed, where a folder refuses.

    All files are written beside their places first and moved there at the end, so a full disk leaves the old bundle.
    """
    waiting: list[tuple[str, Path]] = []
    try:
        for path, text in bundle.items():
            target = root / path
            if target.is_file() and target.read_bytes() == text.encode():
                continue
            if target.is_dir():
                raise UsageError(f"{target}: cannot be written: it is a folder")
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            waiting.append((temporary, target))
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(0o644)
        for temporary, target in waiting:
            os.replace(temporary, target)  # noqa: PTH105 - Path.replace is the same call
    except OSError as error:
        raise UsageError(f"{error.filename2 or error.filename or root}: cannot be written: {error.strerror}") from None
    finally:
        for temporary, _ in waiting:
            Path(temporary).unlink(missing_ok=True)
    return [target for _, target in waiting]
