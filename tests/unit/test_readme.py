"""What the README promises exists, and what exists the README mentions."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from herdwatch import config as configuration
from herdwatch.bundle import alertmanager, pages, rules
from herdwatch.bundle.location import bundle_root
from herdwatch.cli import app
from herdwatch.collector.acl import setuser
from herdwatch.drill.replay.session import SHORT
from herdwatch.drill.replay.telling import HEADS
from herdwatch.proof.catalogue import INCIDENTS
from herdwatch.proof.known import KNOWN
from herdwatch.tools import find

ROOT = bundle_root()
README = (ROOT / "README.md").read_text()
BLOCKS = pages.code_blocks(README)
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
RULES = "alerts/herdwatch.rules.yml"
DOCUMENTS = ["README.md", "DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def block(key: str) -> Any:
    """The YAML of the README that has this key."""
    written = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"]
    [found] = [one for one in written if key in one]
    return found


def commands() -> list[str]:
    lines = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
    return [line for line in lines if line.startswith("herdwatch ")]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_command_is_mentioned(verb: str) -> None:
    assert f"`herdwatch {verb}`" in README


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_readme_has_the_options_it_is_given(line: str) -> None:
    _, verb, *arguments = shlex.split(line, comments=True)
    context = VERBS[verb].make_context(verb, arguments, resilient_parsing=False)
    assert context.command.name == verb


@pytest.mark.parametrize("text", [text for language, text in BLOCKS if language == "bash"])
def test_a_block_of_commands_is_valid_bash(text: str) -> None:
    done = subprocess.run(["/bin/bash", "-n"], input=text, text=True, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "rule",
    [rule.name for rule in rules.load((ROOT / RULES).read_text(), "rules") if rule.is_alert],
)
def test_every_alert_stands_in_the_table_with_its_severity(rule: str) -> None:
    found = rules.load((ROOT / RULES).read_text(), "rules")
    severity = next(one.labels["severity"] for one in found if one.name == rule)
    assert re.search(rf"^\| \[{rule}\]\(runbooks/{rule}\.md\) \| {severity} \|", README, re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_between_documents_leads_somewhere(document: str) -> None:
    targets = [link.partition("#")[0] for link in pages.links((ROOT / document).read_text())]
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert missing == []


def test_the_scrape_configuration_of_the_readme_is_that_of_the_bundle() -> None:
    shown = block("scrape_configs")
    rendered = yaml.safe_load((ROOT / "alerts/prometheus.yml").read_text())
    assert shown["rule_files"] == rendered["rule_files"]
    for mine, theirs in zip(shown["scrape_configs"], rendered["scrape_configs"], strict=True):
        assert mine == theirs


def test_an_alertmanager_of_one_s_own_takes_the_routes_of_the_bundle_under_one_of_its_own(tmp_path: Path) -> None:
    config, shown = yaml.safe_load((ROOT / "alerts/alertmanager.yml").read_text()), block("route")["route"]
    [ours] = shown["routes"]
    assert {name: ours[name] for name in ("receiver", "group_by")}.items() <= config["route"].items()
    ours["routes"] = config["route"]["routes"]
    config["route"] = {"receiver": "everybody", "group_by": ["alertname"], "routes": [ours]}
    config["receivers"].append({"name": "everybody"})
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    shutil.copy(ROOT / "alerts/herdwatch.tmpl", tmp_path)
    alerts = [rule for rule in rules.load((ROOT / RULES).read_text(), "rules") if rule.is_alert]
    assert list(alertmanager.problems(path, find("amtool"), alerts)) == []
    ours["matchers"] = ['alertname=~"Cache.+"']
    path.write_text(yaml.safe_dump(config))
    assert any("HerdwatchWatchdog" in problem for problem in alertmanager.problems(path, find("amtool"), alerts))


def test_the_acl_rule_of_the_readme_is_that_of_the_cache_that_it_scrapes() -> None:
    (shown,) = (line for _, text in BLOCKS for line in text.splitlines() if " ACL SETUSER " in line)
    assert shown == f"redis-cli {setuser(configuration.single('redis://127.0.0.1:6379').caches[0])}"


@pytest.mark.parametrize("target", re.findall(r"^make ([a-z]+)", "\n".join(text for _, text in BLOCKS), re.MULTILINE))
def test_a_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_shown_run_has_every_step_of_the_demo() -> None:
    run, _, _ = (text for language, text in BLOCKS if language == "text")
    source = (Path(pages.__file__).parents[1] / "drill" / "demo.py").read_text()
    for words in (
        "first scrape that shows it",
        "fires in Prometheus",
        "page delivered",
        "runbook link answers",
        "hit ratio is back",
        "resolve message delivered",
        "Verdict:",
    ):
        assert words in run
        assert words in source


def test_the_shown_drill_is_the_short_one_in_the_columns_that_it_prints() -> None:
    _, drill, _ = (text for language, text in BLOCKS if language == "text")
    head, *rows = drill.splitlines()
    assert tuple(head.split()) == HEADS
    assert [row.split()[0] for row in rows] == [run.name for run in SHORT]
    assert all(row.endswith("agree") for row in rows)


def test_the_shown_score_is_of_the_catalogue_that_there_is() -> None:
    _, _, score = (text for language, text in BLOCKS if language == "text")
    calm = {one.name for one in INCIDENTS if one.urgency == "calm"}
    loud = len(INCIDENTS) - len(calm)
    missed = sum(one.interval <= 15 and name not in calm for name, one in KNOWN.items())
    assert f"{len(INCIDENTS)} plays: {loud} incidents, {len(calm)} calm days" in score
    assert f"15 s  {loud - missed}/{loud}" in score
