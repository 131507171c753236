"""What os-brick needs of the process that it runs in, and its locks, which everything shares that attaches volumes on
this host.

os-brick is imported inside functions alone: it takes 36 to 84 MiB, which neither the node nor a process that never
attaches has to carry.
"""

import contextlib
import os
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from csi_plugin.attachment.waiting import waiting

_SHARE_LOCKS = 64
"""Shares have these locks together, so that there is no file for each share that ever was."""


@contextlib.contextmanager
def alone_on_host() -> Iterator[None]:
    """Be the only one that connects or disconnects volumes of protocols for which os-brick takes one at a time."""
    with _holding("connect_volume"):
        yield


@contextlib.contextmanager
def alone_on_share(folder: Path) -> Iterator[None]:
    """Be the only one on this host that mounts or unmounts the share at a folder: one whose server is away must not
    hold up others, nor volumes of other protocols."""
    with _holding(f"share-{zlib.crc32(os.fsencode(folder)) % _SHARE_LOCKS}"):
        yield


@contextlib.contextmanager
def _holding(name: str) -> Iterator[None]:
    prepare_os_brick()
    from oslo_concurrency import lockutils

    with contextlib.ExitStack() as held:
        with waiting():
            held.enter_context(lockutils.lock(name, "os-brick-", external=True, lock_path=locks_folder()))
        yield


def locks_folder() -> str:
    """Where lock files are, which everything shares that attaches volumes on this host."""
    prepare_os_brick()
    from oslo_config import cfg

    return str(cfg.CONF.os_brick.lock_path)


def connected_nvme_devices(data: dict[str, Any]) -> list[str]:
    """Paths of the devices through which this host has the volume of an NVMe connection, which is changed."""
    prepare_os_brick()
    from os_brick.initiator.connectors.nvmeof import NVMeOFConnProps

    return list(NVMeOFConnProps(data, find_controllers=True).get_devices())


def preload_os_brick() -> None:
    """Import all that connectors use, so that forks of this process share it, and its memory."""
    prepare_os_brick()
    import os_brick.initiator.connector
    import os_brick.initiator.connectors.iscsi  # noqa: F401


def prepare_os_brick() -> None:
    """Privileged code runs in this process when it is root's; a process that set os-brick up already stays as it is.

    In the node's attachment process, oslo.concurrency takes the folder of lock files from OSLO_LOCK_PATH.
    """
    from oslo_service import backend

    if backend.get_backend_type() is None:
        # Before os-brick's libraries look for eventlet. The library, or a service of Cinder's own, has chosen already.
        backend.init_backend(backend.BackendType.THREADING)
    import os_brick
    import os_brick.privileged
    from oslo_concurrency import lockutils  # noqa: F401 - it defines the option that os-brick's is set from
    from oslo_config import cfg

    _tell_of_waiting()
    if os.geteuid() == 0:
        os_brick.privileged.default.set_client_mode(False)
        os_brick.privileged.brick_privsep_hide_output.set_client_mode(False)
    if not cfg.CONF.os_brick.lock_path:
        os_brick.setup(cfg.CONF)


def _tell_of_waiting() -> None:
    """Let os-brick's connectors say when they wait for one another."""
    from os_brick.initiator.connectors import base
    from oslo_concurrency import lockutils

    @contextlib.contextmanager
    def lock(*arguments: Any, **options: Any) -> Iterator[None]:
        with contextlib.ExitStack() as held:
            with waiting():
                held.enter_context(lockutils.lock(*arguments, **options))
            yield

    base.lockutils = types.SimpleNamespace(lock=lock, AcquireLockFailedException=lockutils.AcquireLockFailedException)
