"""What Cinder's LIO target does not take into account: targets that are gone, and incomplete ones.

A target may be gone after a reboot, or because a person removed it: then no host is connected. One that could not be
made to the end (its portal's address is taken, say) keeps its backstore, and with it the volume open; the next attempt
finds the backstore and takes it for a target.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cinder import exception
from oslo_concurrency import processutils

from csi_plugin.instrumentation.tracing import before_call
from csi_plugin.storage.cinder.adaptations import lvm_tools
from csi_plugin.storage.cinder.driver_classes import attribute

LOG = logging.getLogger(__name__)

CORE = Path("/sys/kernel/config/target/core")
"""Where the kernel shows the backstores, by type and name."""
TARGETS = Path("/sys/kernel/config/target/iscsi")
"""Where it shows the targets, by name."""


def uses_lio(driver: Any) -> bool:
    target_driver = attribute(driver, "target_driver")
    return any(cls.__name__ == "LioAdm" for cls in target_driver.__class__.__mro__)


@contextmanager
def detached_when_gone(driver: Any, volume: Any) -> Iterator[None]:
    """Around the end of a connection: one with a target that is gone has ended. Does nothing for other drivers."""
    try:
        yield
    except exception.ISCSITargetDetachFailed:
        if not uses_lio(driver) or driver.target_driver._get_target(_iqn(driver, volume)) is not None:
            raise
        LOG.warning("the target of volume %s is gone, and so is the connection that ends", volume.id)


@contextmanager
def whole_or_not(driver: Any, volume: Any) -> Iterator[None]:
    """Around an export: half of one is removed, before it and after a failure. Does nothing for other drivers."""
    if not uses_lio(driver) or (TARGETS / _iqn(driver, volume).lower()).exists():
        yield
        return
    remove_rest(driver, volume)
    try:
        yield
    except BaseException:
        try:
            remove(driver, volume)
        except Exception:
            # Whatever it is, the error of the export itself says more.
            LOG.exception("what is left of the target of volume %s cannot be removed", volume.id)
        raise


def has_lost(driver: Any, volume: Any, connectors: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the target of a volume that is connected to hosts lacks something, so that each has to be connected anew.

    LIO restores what was saved as a whole, leaves out what has no device yet, and may have saved that since. What is
    left of a target without a unit is removed, since no connection would complete it; a portal that one of several has
    lost is added. False for other drivers.
    """
    if not uses_lio(driver):
        return False
    group = TARGETS / _iqn(driver, volume).lower() / "tpgt_1"
    if not any(group.glob("lun/lun_*/*/udev_path")) or not any(group.glob("np/*")):
        if group.parent.exists():
            LOG.warning("the target of volume %s is incomplete, and is recreated", volume.id)
            remove(driver, volume)
        return True
    _add_portals(driver, volume, group)
    present = {path.name.lower() for path in group.glob("acls/*")}
    return not {str(connector.get("initiator")).lower() for connector in connectors} <= present


def _add_portals(driver: Any, volume: Any, group: Path) -> None:
    """Give a target the portals that its driver tells nodes of, beside those that nodes may be using."""
    wanted = driver.target_driver._get_portals_config()
    for address in wanted["portals_ips"]:
        host = f"[{address}]" if ":" in address and not address.startswith("[") else address
        portal = group / "np" / f"{host}:{wanted['portals_port']}"
        if portal.exists():
            continue
        before_call(driver)
        try:
            portal.mkdir()
        except OSError as error:
            LOG.warning("the target of volume %s has no portal %s, and gets none: %s", volume.id, portal.name, error)
        else:
            LOG.warning("the target of volume %s had no portal %s, and has it again", volume.id, portal.name)


def allow_discards(driver: Any, volume: Any) -> None:
    """After an export: let hosts give back room of a thin volume. Does nothing for other drivers."""
    if not uses_lio(driver) or lvm_tools.is_thick(driver):
        return
    for path in CORE.glob(f"*/{_iqn(driver, volume)}/attrib/emulate_tpu"):
        before_call(driver)
        try:
            path.write_text("1")
        except OSError as error:
            LOG.info("volume %s takes no discards: %s", volume.id, error)


def remove_rest(driver: Any, volume: Any) -> None:
    """Remove a backstore of a volume that is not exported, which would keep it open."""
    if uses_lio(driver) and any(CORE.glob(f"*/{_iqn(driver, volume)}")):
        remove(driver, volume)


def remove(driver: Any, volume: Any) -> None:
    """Remove target and backstore by name, and save that. Raises ProcessExecutionError."""
    target_driver = driver.target_driver
    target_driver._execute("cinder-rtstool", "delete", _iqn(driver, volume), run_as_root=True)
    try:
        target_driver._execute("cinder-rtstool", "save", run_as_root=True)
    except processutils.ProcessExecutionError as error:
        LOG.warning("LIO's configuration cannot be saved: %s", error)


def _iqn(driver: Any, volume: Any) -> str:
    return f"{driver.target_driver.iscsi_target_prefix}{volume.name}"
