"""The text of a herdwatch.yaml -> a validated Config, or errors that name file, line, path and what would be right.

Other YAML files that herdwatch reads are validated by the same means: `read` and `validated`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from herdwatch.config.fields import Section
from herdwatch.config.model import Config, Exporter
from herdwatch.errors import ConfigError

S = TypeVar("S", bound=Section)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 safe loading that refuses a key given twice, which plain YAML silently resolves to the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == _MERGE:
                raise _not_here("a key is one word, neither a list, a mapping nor <<", key_node)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise _not_here(f"the key {key!r} is given twice", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except _YAML_SLIPS:  # a date in month 13, a number beyond all bounds
            kind = node.tag.rpartition(":")[2]
            raise _not_here(f"{str(node.value)[:40]!r} is no {kind}", node) from None


class _TextLoader(_Loader):
    """The same, with every plain value as text: what looks like a date or a number is a password as well."""

    yaml_implicit_resolvers: Any = {}  # noqa: RUF012 - PyYAML's own name and form


_MERGE = "tag:yaml.org,2002:merge"
_YAML_SLIPS = (ArithmeticError, AttributeError, LookupError, ValueError)
"""What PyYAML lets through where a value is not what its tag or its look says."""


def _not_here(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def load(path: Path) -> Config:
    """Read and validate herdwatch.yaml; raises ConfigError naming file, line, path and what would be right."""
    text = read(path, missing="give one with --config, or start from the commented default")
    return parse(text, str(path), folder=path.parent)


def parse(text: str, source: str, *, folder: Path = Path()) -> Config:
    """Validate the text of a herdwatch.yaml; `source` is what errors call it, `folder` where its files are."""
    return validated(text, source, Config, example="caches:", context={"folder": folder})


def read(path: Path, *, missing: str) -> str:
    """The text of a file; raises ConfigError, which says `missing` where there is no such file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {missing}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def validated(
    text: str, source: str, model: type[S], *, example: str, secret: bool = False, context: dict[str, Any] | None = None
) -> S:
    """Validate the text of a YAML file by its model; raises ConfigError, which calls the file `source`.

    `example` is a key that such a file has. The values of a `secret` file are text alone, and no error quotes one.
    `context` is given to the model's validators.
    """
    try:
        data = yaml.load(text, _TextLoader if secret else _Loader)  # noqa: S506 - SafeLoaders
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError, *_YAML_SLIPS) as error:
        problem = _not_yaml(error, text)
        raise ConfigError(f"{source}:{_QUOTED.sub('...', problem) if secret else problem}") from None
    if not isinstance(data, dict):
        found = "empty" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{source}:1: the top level is {found}; it must be a mapping of keys such as {example}")
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        raise ConfigError(_explain(error, source, root, model)) from None


_QUOTED = re.compile(r"'.*'|\".*\"")
"""A value as PyYAML repeats it in its errors."""


def _not_yaml(error: Exception, text: str) -> str:
    """LINE: what PyYAML found wrong with it."""
    mark = getattr(error, "problem_mark", None)
    line = mark.line if mark else text.count("\n", 0, getattr(error, "position", 0))
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"{line + 1}: not valid YAML: {'nested too deeply' if isinstance(error, RecursionError) else problem}"


def single(url: str, **credentials: Any) -> Config:
    """The configuration of one Redis given on the command line; it is called `cache`."""
    given = {key: value for key, value in credentials.items() if value is not None}
    return _from_command_line({"caches": [{"name": "cache", "url": url, **given}]}, "--redis-url")


def listening(config: Config, address: str) -> Config:
    """The same configuration with the exporter at another address, HOST:PORT."""
    try:
        listen = Exporter.model_validate({"listen": address}).listen
    except ValidationError as error:
        raise ConfigError(f"--listen: {_message(error.errors()[0])}") from None
    return config.model_copy(update={"exporter": config.exporter.model_copy(update={"listen": listen})})


def _from_command_line(data: dict[str, Any], option: str) -> Config:
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(_path(first)[-1])
        given_by = option if name in ("url", "caches") else f"--{name.replace('_', '-')}"
        raise ConfigError(f"{given_by}: {_message(first)}") from None


_IN_YAML = {
    "dict_type": "must be a mapping of keys",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "missing": "is required",
    "model_type": "must be a mapping of keys",
    "string_type": "must be text; put it in quotes if it is",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
}
"""What pydantic says of Python's types, said of YAML."""


def _message(detail: Any) -> str:
    text: str = detail["msg"]
    return _IN_YAML.get(detail["type"]) or text.removeprefix("Value error, ")


def _path(detail: Any) -> list[int | str]:
    inner = getattr(detail.get("ctx", {}).get("error"), "path", ())
    return [part for part in (*detail["loc"], *inner) if part != "[key]"]


def _explain(error: ValidationError, source: str, root: yaml.Node | None, model: type[Section]) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # items that are wrong count as missing; what is wrong with them is said already
        path = _path(detail)
        message = _message(detail)
        if detail["type"] == "extra_forbidden":
            message = _unknown(_section_at(path, model), path[-1])
        where = _dotted(path)
        lines.append(f"{source}:{_line(root, path)}: {where + ': ' if where else ''}{message}")
    return "\n".join(lines)


def _dotted(path: list[int | str]) -> str:
    text = ""
    for part in path:
        name = part if isinstance(part, int) or part.isprintable() else repr(part)
        text += f"[{name}]" if isinstance(part, int) else f".{name}" if text else str(name)
    return text


def _unknown(section: type[Section], key: int | str) -> str:
    known = ", ".join(field.alias or name for name, field in section.model_fields.items())
    return (
        f"not supported; supported here: {known}" if key in section.unsupported else f"unknown key; known here: {known}"
    )


def _section_at(path: list[int | str], root: type[Section]) -> type[Section]:
    """The section that the last key of `path` stands in."""
    section = root
    for part in path[:-1]:
        # Positions in a list and names chosen by the user, as under databases: or receivers:, are no fields.
        field = section.model_fields.get(str(part))
        nested = _models_in(field.annotation) if field is not None else []
        section = nested[0] if nested else section
    return section


def _models_in(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for inner in getattr(annotation, "__args__", ()) for model in _models_in(inner)]


def _line(node: yaml.Node | None, path: list[int | str]) -> int:
    """The line of the value at `path`, or of the deepest part of the path that the file has."""
    line = 1
    for part in path:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, found = key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1 if found else line
        if found is None:
            return line
        node = found
    return line
