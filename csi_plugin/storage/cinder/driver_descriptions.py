"""Cinder's volume drivers with their options, read from their classes.

Importing this module loads much of Cinder, and the reading loads all drivers: ``driver_catalogue`` does it in a process
of its own.
"""

import os
from pathlib import Path
from typing import Any

import cinder
from cinder.interface import util

from csi_plugin.storage.cinder import runtime
from csi_plugin.storage.cinder.adaptations.hidden_options import UNDEFINED_OPTIONS

assert runtime.CONTEXT  # drivers need threads behind eventlet's names before they are loaded


def describe_drivers() -> dict[int, list[dict[str, Any]]]:
    """Every driver, ordered by class path, in both versions of ``driver_catalogue.supported_drivers``.

    Changes the working directory.
    """
    os.chdir(Path(cinder.__file__).parent.parent)  # where Cinder's own search starts
    drivers = sorted(util.get_volume_drivers(), key=lambda driver: str(driver.class_fqn))
    return {version: [_describe(driver, version) for driver in drivers] for version in (1, 2)}


def _describe(driver: Any, version: int) -> dict[str, Any]:
    described = {name: value for name, value in vars(driver).items() if name not in ("cls", "driver_options")}
    undefined = UNDEFINED_OPTIONS.get(driver.class_name, ())
    names = {option.dest for option in undefined}
    options = [*(option for option in driver.driver_options if option.dest not in names), *undefined]
    return described | {"driver_options": [_describe_option(option, version) for option in options]}


def _describe_option(option: Any, version: int) -> dict[str, Any]:
    values = _public(option)
    if version == 1:
        return {name: str(value) for name, value in values.items()}
    return values | {"type": _public(option.type) | {"type_class": option.type}}


def _public(obj: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(obj).items() if not name.startswith("_")}
