"""YAML of settings: read as a whole, or refused with the place and without what is written there."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

_QUOTED = re.compile(r"'.*'|\".*\"", re.DOTALL)


class _RepeatedKey(yaml.MarkedYAMLError):
    """A name that has two values in one mapping."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names: set[Any] = set()
        for key, _ in node.value:  # before merges ("<<"), whose names are there to be given another value
            if isinstance(key, yaml.ScalarNode):
                if key.value in names and key.tag != "tag:yaml.org,2002:merge":
                    raise _RepeatedKey(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
                names.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """The content of a text in YAML, of which JSON is a part. Raises yaml.YAMLError, also for a name that is there
    twice: YAML's own rule, which would else make the second list of backends the only one."""
    return yaml.load(text, _Loader)


def what_is_wrong(error: yaml.YAMLError) -> str:
    """What is wrong and where, without what the parser quotes of it: that may be a password."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    if isinstance(error, _RepeatedKey):
        return f"{place}{error.problem}"
    problem = _QUOTED.sub("(...)", str(getattr(error, "problem", None) or "it cannot be read"))
    return f"{place}{problem} (text with characters such as : # * & ! % @ needs quotes)"
