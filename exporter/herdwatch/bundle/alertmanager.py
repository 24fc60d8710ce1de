"""What is wrong with a rendered alertmanager.yml, before an alert has to find out."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from herdwatch.tools import Tool

_DEFINED = re.compile(r'\{\{-? *define "(herdwatch\.[\w.]+)"')
_USED = re.compile(r'\{\{-? *template "(herdwatch\.[\w.]+)"')


def problems(path: Path, amtool: Tool) -> Iterator[str]:
    """Sentences on the file, which lies in the bundle's alerts/, and on the templates of its messages."""
    done = subprocess.run(
        amtool.command("check-config", path),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=amtool.cwd,
        env={**os.environ, **amtool.env},
    )
    words = " ".join((done.stdout + done.stderr).split())
    if done.returncode == 0:
        yield from _message_problems(path)
    elif "field url_file not found" in words:
        yield f"alerts/{path.name}: webhook_url_file needs Alertmanager 0.26 or later; here it is {amtool.version}"
    else:
        yield f"alerts/{path.name}: {words}"


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
