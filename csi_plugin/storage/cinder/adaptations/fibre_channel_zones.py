"""Options of the Fibre Channel zone manager and of its fabrics, which Cinder registers when a driver needs them."""

import importlib
from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

GROUP = "fc-zone-manager"
_NAMES = f"{GROUP}.fc_fabric_names"
_DEFINED_IN = (
    "cinder.zonemanager.fc_zone_manager",
    "cinder.zonemanager.drivers.brocade.brcd_fc_zone_driver",
    "cinder.zonemanager.drivers.cisco.cisco_fc_zone_driver",
    "cinder.zonemanager.fc_san_lookup_service",
)
_OF_FABRICS = (
    ("cinder.zonemanager.drivers.brocade.brcd_fabric_opts", "brcd_zone_opts"),
    ("cinder.zonemanager.drivers.cisco.cisco_fabric_opts", "cisco_zone_opts"),
)


def register(options: Mapping[str, Any]) -> None:
    """Register what options of zones and fabrics are checked against, if there are any."""
    if not any(name.startswith(f"{GROUP}.") for name in options):
        return
    for module in _DEFINED_IN:
        importlib.import_module(module)
    for fabric in filter(None, (name.strip() for name in str(options.get(_NAMES) or "").split(","))):
        for module, definitions in _OF_FABRICS:
            cfg.CONF.register_opts(getattr(importlib.import_module(module), definitions), group=fabric)
