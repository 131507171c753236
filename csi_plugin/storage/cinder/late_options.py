"""Options of modules that are loaded after the set-up: set when they are defined.

Many of Cinder's modules define their options as they are imported, and some are imported when a driver needs them:
cinder.ssh_utils, with the policy for unknown host keys. What a program sets before that shall not be lost.
"""

from collections.abc import Callable
from typing import Any

from oslo_config import cfg

_expected: dict[tuple[str | None, str], Callable[[cfg.Opt], None]] = {}


def expect(group: str | None, name: str, set_option: Callable[[cfg.Opt], None]) -> None:
    """Call ``set_option`` with the definition as soon as that section (None: [DEFAULT]) has one of that name."""
    _expected[group, name] = set_option


class _Registration:
    """Stands in for ``cfg.CONF.register_opt``, through which all options are registered."""

    def __init__(self, register: Any) -> None:
        self._register = register

    def __call__(self, opt: cfg.Opt, group: Any = None, *args: Any, **kwargs: Any) -> bool:
        is_new: bool = self._register(opt, group, *args, **kwargs)
        section = getattr(group, "name", group)
        key = (None if section == "DEFAULT" else section, opt.dest)
        if key in _expected:
            _expected[key](opt)  # raises for an ill-typed value, at each attempt to load the module
            del _expected[key]
        return is_new


cfg.CONF.register_opt = _Registration(cfg.CONF.register_opt)
