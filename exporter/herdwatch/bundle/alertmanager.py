"""What is wrong with a rendered alertmanager.yml, before an alert has to find out."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from herdwatch.bundle.rules import Rule
from herdwatch.tools import Tool

_DEFINED = re.compile(r'\{\{-? *define "(herdwatch\.[\w.]+)"')
_USED = re.compile(r'\{\{-? *template "(herdwatch\.[\w.]+)"')


def problems(path: Path, amtool: Tool, alerts: Sequence[Rule]) -> Iterator[str]:
    """Sentences on the file, which lies in the bundle's alerts/ beside these alerts, and on its messages' templates."""
    done = _ask(amtool, "check-config", str(path))
    words = " ".join((done.stdout + done.stderr).split())
    if done.returncode == 0:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        yield from _message_problems(path)
        yield from (f"alerts/{path.name}: {one}" for one in _route_problems(path, amtool, config, alerts))
        yield from (f"alerts/{path.name}: {one}" for one in _inhibition_problems(config, alerts))
    elif "field url_file not found" in words:
        yield f"alerts/{path.name}: webhook_url_file needs Alertmanager 0.26 or later; here it is {amtool.version}"
    else:
        yield f"alerts/{path.name}: {words}"


def silent(path: Path) -> list[str]:
    """Receivers that deliver to nobody, by name, but the one that is there for what has no route."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        nobody = config["route"]["receiver"]
        return [one["name"] for one in config["receivers"] if len(one) == 1 and one["name"] != nobody]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError):
        return []  # what is wrong with it is told by `problems`


def _ask(amtool: Tool, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        amtool.command(*arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=amtool.cwd,
        env={**os.environ, **amtool.env},
    )


def _route_problems(path: Path, amtool: Tool, config: Any, alerts: Sequence[Rule]) -> Iterator[str]:
    """Alerts that no route takes, by amtool's own reading of the routes."""
    nobody, lost = config["route"]["receiver"], dict[str, list[str]]()
    for severity, name in dict.fromkeys((rule.labels.get("severity", ""), rule.name) for rule in alerts):
        labels = (f"severity={severity}", f"alertname={name}")
        done = _ask(amtool, "config", "routes", "test", f"--config.file={path}", *labels)
        if nobody in done.stdout.split():
            lost.setdefault(severity, []).append(name)
    for severity, names in lost.items():
        yield f"no route takes the severity {severity}: {', '.join(names)} would reach {nobody}"


def _inhibition_problems(config: Any, alerts: Sequence[Rule]) -> Iterator[str]:
    known = {rule.name for rule in alerts}
    of_a_cache = {rule.name for rule in alerts if "$labels.cache" in rule.annotations.get("summary", "")}
    for number, rule in enumerate(config.get("inhibit_rules") or (), 1):
        matchers = [*rule.get("source_matchers", ()), *rule.get("target_matchers", ())]
        named = [name for one in matchers for name in _names(one)]
        for name in named:
            if name not in known:
                yield f"inhibition {number} names {name}, and no alert of the rules is called so"
        sources = {name for one in rule.get("source_matchers", ()) for name in _names(one)}
        if sources & of_a_cache and "cache" not in (rule.get("equal") or ()):
            yield f"inhibition {number} has no cache under equal: {min(sources)} of one would hide what is said of all"


def _names(matcher: str) -> list[str]:
    """The alerts that a matcher names, as in alertname=~"CacheDown|CacheTargetDown"."""
    found = re.fullmatch(r'\s*alertname\s*=~?\s*"?([\w|]+)"?\s*', matcher)
    return found[1].split("|") if found else []


def _message_problems(path: Path) -> Iterator[str]:
    """Messages that could not be written. Alertmanager notices only when it should send one, and amtool never."""
    config = path.read_text(encoding="utf-8")
    texts = {path: config}
    for name in yaml.safe_load(config).get("templates") or ():
        template = path.parent / name
        files = sorted(template.parent.glob(template.name))
        if not files:
            yield f"alerts/{path.name}: its template {name} is not there; run: herdwatch render"
            return
        texts.update((file, file.read_text(encoding="utf-8", errors="replace")) for file in files)
    defined = {name for text in texts.values() for name in _DEFINED.findall(text)}
    for file, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for name in _USED.findall(line):
                if name not in defined:
                    yield f"alerts/{file.name}:{number}: no template defines {name}"
