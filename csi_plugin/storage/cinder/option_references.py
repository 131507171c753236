"""References in options' values, ``$name`` and ``${group.name}``, as oslo.config knows them.

oslo.config replaces them each time that an option is read, looks them up only in [DEFAULT] for values that are set as
ours are, and turns a password with a dollar sign into another one, or an error. Here they are replaced once, when an
option is set; what cannot be resolved stays as it is; and secrets are left alone.
"""

import re
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from csi_plugin.known_secrets import is_secret_name

_REFERENCE = re.compile(
    r"\\\$|\$(?:\$|(?P<name>[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?)|\{(?P<braced>[a-z_][a-z0-9_.-]*)\})", re.IGNORECASE
)
"""``$name``, ``${name}``; and ``$$`` and ``\\$``, which stand for a dollar sign."""
_ALL_BACKENDS = "backend_defaults"
"""Cinder's group of what is not set for a backend. cinderlib had a backend's own options in it while it read them, so
its programs write ``${backend_defaults.name}`` for those."""
_DEPTH_LIMIT = 8


class Final:
    """A value that oslo.config gives out as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _AsItIs:
    """Stands in for ``cfg.CONF._substitute``."""

    def __init__(self, substitute: Any) -> None:
        self._substitute = substitute

    def __call__(self, value: Any, group: Any = None, namespace: Any = None) -> Any:
        return value.value if isinstance(value, Final) else self._substitute(value, group=group, namespace=namespace)


cfg.CONF._substitute = _AsItIs(cfg.CONF._substitute)


class References:
    """Replaces the references in one option's value."""

    def __init__(self, neighbours: Mapping[str, Any], group: str | None, *, own_name: str) -> None:
        """``neighbours``: options that are set together with it; ``group``: its section."""
        self._neighbours = neighbours
        self._group = group
        self._seen = [own_name]
        self.found_secret = False

    def replaced_within(self, value: Any) -> Any:
        """A value of JSON's types with the references in its texts replaced, except under secret names."""
        if isinstance(value, str):
            return self.replaced(value)
        if isinstance(value, dict):
            return {key: item if is_secret_name(key) else self.replaced_within(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.replaced_within(item) for item in value]
        return value

    def replaced(self, text: str) -> str:
        return _REFERENCE.sub(self._replacement, text)

    def _replacement(self, match: re.Match[str]) -> str:
        name = match["braced"] or match["name"]
        if name is None:
            return "$"
        found = self._value(name)
        if found is None and match["name"] and "." in name:  # the end of a sentence, maybe
            first, _, rest = name.partition(".")
            found = self._value(first)
            return match[0] if found is None else f"{found}.{rest}"
        return match[0] if found is None else found

    def _value(self, name: str) -> str | None:
        """What a reference stands for; None when there is no such option, or it refers to itself."""
        if self._group:
            name = name.removeprefix(f"{_ALL_BACKENDS}.")
        if name in self._seen or len(self._seen) > _DEPTH_LIMIT:
            return None
        value = self._neighbours.get(name)
        if value is None:
            return self._configured(name)
        if is_secret_name(name) or self._is_defined_secret(name):
            self.found_secret = True
            return str(value)
        self._seen.append(name)
        try:
            return self.replaced(str(value))
        finally:
            self._seen.pop()

    def _is_defined_secret(self, name: str) -> bool:
        try:
            return bool(cfg.CONF._get_opt_info(name, self._group)["opt"].secret)
        except (cfg.NoSuchOptError, cfg.NoSuchGroupError):
            return False

    def _configured(self, name: str) -> str | None:
        """The value of an option of its own section or its default, of [DEFAULT], or of the group that the name begins
        with."""
        group, _, option = name.rpartition(".")
        own = [self._group, _ALL_BACKENDS, None] if self._group else [None]
        for section in [None if group == "DEFAULT" else group] if group else own:
            try:
                if cfg.CONF._get_opt_info(option, section)["opt"].secret:
                    self.found_secret = True
                value = cfg.CONF._get(option, group=section)
            except (cfg.Error, ValueError, AttributeError):
                continue
            if value is not None and not isinstance(value, cfg.ConfigOpts.GroupAttr):
                return str(value)
        return None
