"""Defaults of options that differ from Cinder's, for the drivers that people use without an array."""

from collections.abc import Mapping
from typing import Any

from cinder.volume import configuration
from oslo_config import cfg

OVER_SUBSCRIPTION_RATIO = "2.0"
"""Cinder's 20 expects an operator who watches the pool and adds disks in time. Where nobody does, writes fail."""

_OPTION = "max_over_subscription_ratio"


def defaults_of(cls: type[Any]) -> Mapping[str, Any]:
    """Options of a driver class that have another value than Cinder's where neither the backend nor the process's
    options say one."""
    if not _needs_no_array(cls) or _is_set_for_all():
        return {}
    return {_OPTION: OVER_SUBSCRIPTION_RATIO}


def _needs_no_array(cls: type[Any]) -> bool:
    names = {base.__name__ for base in cls.__mro__}
    # Vendors' drivers for NFS stand on Cinder's.
    return bool(names & {"LoopDriver", "LVMVolumeDriver", "RBDDriver"}) or cls.__module__ == "cinder.volume.drivers.nfs"


def _is_set_for_all() -> bool:
    section = cfg.CONF._get(configuration.SHARED_CONF_GROUP)
    definition = cfg.CONF._get_opt_info(_OPTION, configuration.SHARED_CONF_GROUP)["opt"]
    return bool(section[_OPTION] != definition.default)
