"""Tables of commands, metrics, alerts and defaults, made from where each is declared, in README.md and the reference.

A document has `<!-- rendered: NAME -->` above such a table and `<!-- end -->` below it; `herdwatch render` writes what
is between them, and `render --check` fails when it is stale.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import typer

from herdwatch import metrics
from herdwatch.bundle import rules
from herdwatch.bundle.pages import lead
from herdwatch.cli.app import app
from herdwatch.config import Config, schema
from herdwatch.errors import CheckFailed
from herdwatch.metrics import Family

Bundle = Mapping[PurePosixPath, str]

PAGE = PurePosixPath("exporter/herdwatch/README.md")
DOCUMENTS = (PurePosixPath("README.md"), PAGE)
_RULES = PurePosixPath("alerts/herdwatch.rules.yml")
_PLACE = re.compile(r"(<!-- rendered: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def documents(bundle: Bundle, config: Config, root: Path) -> dict[PurePosixPath, str]:
    """The documents below `root` with their tables as they should be; empty where they are not, as beside a wheel.

    Raises CheckFailed for a table that a document asks for and that there is not.
    """
    if not all((root / path).is_file() for path in DOCUMENTS):
        return {}
    return {path: filled((root / path).read_text(encoding="utf-8"), path, bundle, config) for path in DOCUMENTS}


def filled(text: str, path: PurePosixPath, bundle: Bundle, config: Config) -> str:
    """The text with each of its tables written anew."""
    to_root = "../" * (len(path.parts) - 1)

    def table(place: re.Match[str]) -> str:
        make = _TABLES.get(place[2])
        if make is None:
            raise CheckFailed(f"{path}: no table {place[2]!r} is rendered; there is: {', '.join(_TABLES)}")
        return f"{place[1]}{make(bundle, config, to_root)}{place[4]}"

    return _PLACE.sub(table, text)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0]), *map(list, rows)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _alerts(bundle: Bundle, _: Config, to_root: str) -> str:
    rows = {}
    for rule in rules.load(bundle[_RULES], str(_RULES)):
        if rule.is_alert and rule.name not in rows:
            page = PurePosixPath(f"runbooks/{rule.name}.md")
            rows[rule.name] = (
                f"[{rule.name}]({to_root}{page})",
                rule.labels["severity"],
                lead(bundle[page], str(page)),
            )
    return _table(("alert", "severity", "says"), rows.values())


def _commands(*_: object) -> str:
    return _table(
        ("command", "does"),
        ((f"`herdwatch {name}`", (verb.help or "").partition("\n")[0]) for name, verb in _verbs()),
    )


def _verbs() -> list[tuple[str, Any]]:
    """The verbs in the order in which the command lists them."""
    command: Any = typer.main.get_command(app)
    return list(command.commands.items())


def _options(*_: object) -> str:
    return "\n".join(f"### herdwatch {name}\n\n{verb.help}\n\n{_options_of(verb)}" for name, verb in _verbs())


def _options_of(verb: Any) -> str:
    given = [one for one in verb.params if one.name not in ("help", "install_completion", "show_completion")]
    rows = [(_name(one), _default(one.default), one.help or "") for one in given if not getattr(one, "hidden", False)]
    return _table(("option", "default", "meaning"), rows) if rows else "It has no options.\n"


def _name(option: Any) -> str:
    names = ", ".join(f"`{one}`" for one in [*option.opts, *option.secondary_opts] if one.startswith("-"))
    metavar = option.metavar or ""
    return f"{names} {metavar}".strip() if names else f"`{metavar or option.name.upper()}`"


def _default(value: Any) -> str:
    if value is None or value is False or callable(value) or value in ((), [], {}):
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(_default, value))
    plain = getattr(value, "value", value)
    return f"`{f'{plain:g}' if isinstance(plain, float) else str(plain).lower() if plain is True else plain}`"


def _metrics(families: Iterable[Family]) -> str:
    rows = (
        (f"`{one.sample}`", one.kind, ", ".join(f"`{label}`" for label in one.labels), one.help, one.source)
        for one in families
    )
    return _table(("metric", "type", "labels", "meaning", "from"), rows)


def _thresholds(_: object, config: Config, __: str) -> str:
    rows = ((f"`{name}`", f"`{value:g}`") for name, value in config.thresholds.model_dump().items())
    return _table(("threshold", "default"), rows)


def _keys(*_: object) -> str:
    document = schema.document()
    return _table(("key", "default", "meaning"), _keys_of(document, document["$defs"]))


def _keys_of(section: Any, sections: Any, path: str = "") -> Iterator[tuple[str, str, str]]:
    for name, value in section["properties"].items():
        inner, repeated = _section_in(value)
        if inner:
            yield from _keys_of(sections[inner], sections, f"{path}{name}{repeated}.")
        else:
            default = "required" if name in section.get("required", ()) else _default(value.get("default"))
            yield f"`{path}{name}`", default, value.get("description", "")


def _section_in(value: Any) -> tuple[str, str]:
    """The name of the section that a key holds, empty where it holds none, and how several of it are written."""
    if "$ref" in value:
        return value["$ref"].rpartition("/")[2], ""
    several = [("", one) for one in value.get("anyOf", ())]
    several += [("[]", value.get("items")), (".NAME", value.get("additionalProperties"))]
    several += [(".NAME", one) for one in value.get("patternProperties", {}).values()]
    for written, one in several:
        inner, more = _section_in(one) if isinstance(one, dict) else ("", "")
        if inner:
            return inner, written + more
    return "", ""


_TABLES: Mapping[str, Callable[[Bundle, Config, str], str]] = {
    "alerts": _alerts,
    "commands": _commands,
    "options": _options,
    "redis_metrics": lambda *_: _metrics((*metrics.PROBE, *metrics.REDIS, *metrics.KEY_GROUPS)),
    "guard_metrics": lambda *_: _metrics((*metrics.REPUBLISHED, *metrics.GUARD_HISTOGRAMS)),
    "exporter_metrics": lambda *_: _metrics(metrics.SELF),
    "thresholds": _thresholds,
    "keys": _keys,
}
