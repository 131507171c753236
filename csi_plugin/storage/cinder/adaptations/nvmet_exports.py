"""What Cinder's nvmet target forgets at a reboot: its exports, which live in the kernel."""

from typing import Any

from csi_plugin.storage.cinder.driver_classes import attribute

_MODULE = "cinder.volume.targets.nvmet"
"""Its ``ensure_export`` does nothing."""


def are_lost_at_reboot(driver: Any) -> bool:
    """Whether a driver's exports have to be created again by connecting each host once more."""
    return bool(attribute(driver, "target_driver").__class__.__module__ == _MODULE)
