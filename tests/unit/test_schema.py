"""The JSON Schema of herdwatch.yaml: what it accepts and refuses is what loading does, as far as a schema can say."""

from __future__ import annotations

import json

import pytest
import yaml
from jsonschema import Draft202012Validator
from tests.unit.one_cache import CACHE, DEFAULT, WAYS, uncommented
from tests.unit.test_config import WRONG

from herdwatch.bundle.location import bundle_root
from herdwatch.config import Config, parse, schema

DOCUMENT = schema.document()
VALIDATOR = Draft202012Validator(DOCUMENT)

BEYOND_A_SCHEMA = {
    *(name for name in WRONG if "interval that is too" in name),
    "a deadline of nothing",
    "a threshold that is not a number",
    *(name for name in WRONG if "port out of range" in name),
    # In Python, unlike in the editors' language, `$` also matches before a line break that ends the text.
    *(name for name in WRONG if "ends with a line break" in name),
    # What must hold between several values.
    "a cache name given twice",
    "two jobs of one name",
    "both references to a password",
    "a database that is not there",
    "a database where there are none",
    "a capacity above the peak",
    "a capacity equal to the peak",
    "a page without runbooks",
    "a certificate's authority without TLS",
    "a certificate without its key",
    "a scraper's authority without https",
    "a scraper's certificate without its key",
    "a scraper's name without a password",
    "pages at an address that speaks TLS",
}


def test_it_is_a_schema_of_its_dialect() -> None:
    Draft202012Validator.check_schema(DOCUMENT)
    assert json.loads(schema.text())["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize("way", WAYS)
def test_the_default_file_with_every_key_in_force_is_right(way: str) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(uncommented(way)))] == []


@pytest.mark.parametrize("sentence", WRONG)
def test_what_loading_refuses_is_marked_where_a_schema_can_say_it(sentence: str) -> None:
    assert VALIDATOR.is_valid(yaml.safe_load(WRONG[sentence][0])) == (sentence in BEYOND_A_SCHEMA)


def test_its_defaults_are_what_loading_takes_and_means() -> None:
    given: dict[str, dict[str, object]] = {}
    for key, value in DOCUMENT["properties"].items():
        section = DOCUMENT["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else {}
        given[key] = {name: one["default"] for name, one in section.get("properties", {}).items() if "default" in one}
    interval = DOCUMENT["properties"]["scrape_interval"]["default"]
    text = f"{CACHE}scrape_interval: {interval}\n" + yaml.safe_dump({key: one for key, one in given.items() if one})
    assert {"thresholds", "exporter", "jobs", "prometheus"} <= {key for key, one in given.items() if one}
    assert parse(text, "defaults") == parse(CACHE, "bare")


def test_every_key_says_what_it_means_or_leads_to_a_section_that_does() -> None:
    sections = {"herdwatch.yaml": DOCUMENT, **DOCUMENT["$defs"]}
    silent = [
        f"{section}.{name}"
        for section, part in sections.items()
        for name, value in part["properties"].items()
        if not value.get("description") and "$ref" not in json.dumps(value)
    ]
    assert len(sections) > 10
    assert silent == []
    assert all(part["description"] for part in sections.values())


def test_the_default_file_names_the_schema_that_is_rendered_beside_it() -> None:
    first = DEFAULT.read_text(encoding="utf-8").partition("\n")[0]
    assert first == f"# yaml-language-server: $schema={schema.FILE}"
    assert (bundle_root() / schema.FILE).read_text(encoding="utf-8") == schema.text()
    assert Config.model_fields.keys() == DOCUMENT["properties"].keys()
