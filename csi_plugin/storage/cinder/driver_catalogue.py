"""The volume drivers that come with Cinder, read in a process of their own: loading all takes seconds and memory."""

import copy
import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

_CHILD = "from csi_plugin.storage.cinder import driver_catalogue; driver_catalogue.print_drivers()"


def supported_drivers(output_version: int = 1) -> dict[str, dict[str, Any]]:
    """Cinder's drivers by class name, each with desc, class_name, class_fqn, version, ci_wiki_name, supported and
    driver_options.

    Two class names are used by two drivers each, so there are two fewer keys than drivers (see ``all_drivers``).
    ``output_version`` 1: every value of an option is text, as for people; 2: values keep their types, and an option's
    type is a dictionary of its limits with oslo.config's own object as ``type_class``. Raises ValueError for another.
    """
    if output_version not in (1, 2):
        raise ValueError("Acceptable versions are 1 and 2")
    return {driver["class_name"]: driver for driver in all_drivers(output_version)}


def all_drivers(output_version: int = 2) -> list[dict[str, Any]]:
    """Every driver as in ``supported_drivers``, ordered by class path. Read once; the answer is the caller's own."""
    return copy.deepcopy(_read()[output_version])


@cache
def _read() -> dict[int, list[dict[str, Any]]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CHILD], check=True, stdout=subprocess.PIPE, env=environment
    )
    found: dict[int, list[dict[str, Any]]] = pickle.loads(child.stdout)
    return found


def print_drivers() -> None:
    """In the child: write all drivers, in both versions, to the standard output."""
    with os.fdopen(os.dup(1), "wb") as output:
        os.dup2(2, 1)  # some modules print when they are imported
        from csi_plugin.storage.cinder import runtime

        assert runtime.CONTEXT
        import cinder
        from cinder.interface import util

        os.chdir(Path(cinder.__file__).parent.parent)  # where Cinder's own search starts
        drivers = sorted(util.get_volume_drivers(), key=lambda driver: str(driver.class_fqn))
        pickle.dump({version: [_described(driver, version) for driver in drivers] for version in (1, 2)}, output)


def _described(driver: Any, version: int) -> dict[str, Any]:
    described = {name: value for name, value in vars(driver).items() if name not in ("cls", "driver_options")}
    options = list(driver.driver_options)
    if driver.class_name == "RBDDriver":
        options = [option for option in options if option.dest != "rbd_keyring_conf"] + [_keyring_option()]
    return described | {"driver_options": [_described_option(option, version) for option in options]}


def _described_option(option: Any, version: int) -> dict[str, Any]:
    values = _public(option)
    if version == 1:
        return {name: str(value) for name, value in values.items()}
    return values | {"type": _public(option.type) | {"type_class": option.type}}


def _public(obj: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(obj).items() if not name.startswith("_")}


def _keyring_option() -> Any:
    """Cinder's RBD driver reads this option and no longer defines it."""
    from oslo_config import cfg

    return cfg.StrOpt("rbd_keyring_conf", default="", help="Path of the keyring file of the Ceph user")
