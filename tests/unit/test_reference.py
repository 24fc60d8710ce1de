"""The tables of the README and the reference are those of what is declared, and nothing declared is missing there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

import pytest
import typer

from herdwatch import cli, metrics
from herdwatch.bundle.location import bundle_root
from herdwatch.bundle.pages import lead
from herdwatch.bundle.render import render_bundle
from herdwatch.cli import app, reference
from herdwatch.config import Config, load
from herdwatch.errors import CheckFailed

ROOT = bundle_root()
PAGE = (ROOT / "exporter/herdwatch/README.md").read_text()
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CONFIG = load(ROOT / "herdwatch.yaml")


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_option_of_every_command_is_in_the_reference(verb: str) -> None:
    section = PAGE.partition(f"### herdwatch {verb}\n")[2].partition("\n### ")[0]
    options = [name for one in VERBS[verb].params for name in one.opts if name.startswith("--") and name != "--help"]
    assert section
    assert [name for name in options if f"`{name}`" not in section] == []


@pytest.mark.parametrize("family", metrics.FAMILIES, ids=lambda one: one.name)
def test_every_metric_is_in_the_reference(family: metrics.Family) -> None:
    assert f"| `{family.sample}` | {family.kind} |" in PAGE


def test_every_key_of_the_configuration_is_in_the_reference() -> None:
    schema = Config.model_json_schema(by_alias=True)
    keys = {name for part in (schema, *schema["$defs"].values()) for name in part.get("properties", ())}
    known = {key.rpartition(".")[2] for key in re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)}
    sections = {part for key in re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE) for part in re.split(r"\W+", key)}
    assert len(keys) > 40
    assert keys - known - sections == set()


def test_what_has_changed_since_is_stale(tmp_path: Path) -> None:
    for path in reference.DOCUMENTS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    bundle = render_bundle(CONFIG)
    made = reference.documents(bundle, CONFIG, tmp_path)
    assert {path: (tmp_path / path).read_text() for path in reference.DOCUMENTS} == made
    page = tmp_path / reference.PAGE
    page.write_text(page.read_text().replace("| `cache_up` | gauge |", "| `cache_up` | counter |"))
    assert reference.documents(bundle, CONFIG, tmp_path) == made


def test_where_the_documents_are_not_none_are_made(tmp_path: Path) -> None:
    assert reference.documents({}, CONFIG, tmp_path) == {}


def test_a_table_that_there_is_not_is_told() -> None:
    with pytest.raises(CheckFailed, match=r"README\.md: no table 'costs' is rendered; there is: alerts, commands"):
        reference.filled("<!-- rendered: costs -->\n<!-- end -->", PurePosixPath("README.md"), {}, CONFIG)


def test_a_runbook_page_without_its_sentence_is_told() -> None:
    assert lead("# A\n\nIt is down.\n\n## Meaning", "A.md") == "It is down"
    with pytest.raises(CheckFailed, match=r"A\.md: one sentence between the title and Meaning"):
        lead("# A\n\n## Meaning", "A.md")


def test_a_bundle_of_somebody_else_has_no_documents(tmp_path: Path) -> None:
    assert cli.run(["render", "--config", str(ROOT / "herdwatch.yaml"), "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "README.md").exists()
