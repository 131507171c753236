"""YAML of settings: read as a whole, or refused with the place and without what is written there."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

_QUOTED = re.compile(r"'.*'|\".*\"", re.DOTALL)
_TAG = "tag:yaml.org,2002:"
_DEEPEST = 64
"""Levels of lists and mappings in one another."""
_LARGEST = 100_000
"""Values, with those that aliases repeat."""


class _Refused(yaml.MarkedYAMLError):
    """Of our own rules: its text quotes no value."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 without the surprises of its plain values: what Python would write in another way is the text that it
    is, such as the password 0123456 (octal there), 12:30:45 (in sixties), 1.50 or 2026-12-01.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._depth > _DEEPEST:
            mark: Any = self.get_mark()
            raise _Refused(problem=f"no more than {_DEEPEST} levels may be in one another", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_document(self) -> yaml.Node | None:
        document = super().compose_document()
        if document is not None:
            _count(document, {})
        return document

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError, OverflowError):
            # Its text quotes the value.
            kind = node.tag.removeprefix(_TAG)
            raise _Refused(problem=f"this is no {kind}", problem_mark=node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names: set[Any] = set()
        for key, _ in node.value:  # before merges ("<<"), whose names are there to be given another value
            if isinstance(key, yaml.ScalarNode):
                if key.value in names and key.tag != f"{_TAG}merge":
                    raise _Refused(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
                names.add(key.value)
        return super().construct_mapping(node, deep)


def _restrict(loader: type[_Loader]) -> None:
    """To the types that settings have; those of JSON."""
    own = {"int": r"-?(0|[1-9][0-9]*)$", "float": r"-?(0|[1-9][0-9]*)\.([0-9]|[0-9]*[1-9])$"}
    loader.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag in {f"{_TAG}{name}" for name in ("bool", "null", "merge")}]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for name, pattern in own.items():
        loader.add_implicit_resolver(f"{_TAG}{name}", re.compile(pattern), list("-0123456789"))
    others = {f"{_TAG}{name}" for name in ("binary", "omap", "pairs", "set", "timestamp")}
    loader.yaml_constructors = {
        tag: constructor for tag, constructor in yaml.SafeLoader.yaml_constructors.items() if tag not in others
    }


_restrict(_Loader)


def _count(node: yaml.Node, counts: dict[yaml.Node, int | None]) -> int:
    """How many values a node has; an alias counts as what it stands for."""
    if node in counts:
        known = counts[node]
        if known is None:
            raise _Refused(problem="this is a part of itself", problem_mark=node.start_mark)
        return known
    counts[node] = None
    count = 1
    if isinstance(node, yaml.SequenceNode):
        count += sum(_count(item, counts) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        count += sum(_count(part, counts) for pair in node.value for part in pair)
    if count > _LARGEST:
        raise _Refused(problem=f"there are more than {_LARGEST} values, with aliases", problem_mark=node.start_mark)
    counts[node] = count
    return count


def load_yaml(text: str) -> Any:
    """The content of a text in YAML, of which JSON is a part. Raises yaml.YAMLError, also for a name that is there
    twice: YAML's own rule, which would else make the second list of backends the only one."""
    return yaml.load(text, _Loader)


def what_is_wrong(error: yaml.YAMLError) -> str:
    """What is wrong and where, without what the parser quotes of it: that may be a password."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    if isinstance(error, _Refused):
        return f"{place}{error.problem}"
    problem = _QUOTED.sub("(...)", str(getattr(error, "problem", None) or "it cannot be read"))
    return f"{place}{problem} (text with characters such as : # * & ! % @ needs quotes)"
