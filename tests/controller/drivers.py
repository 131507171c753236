"""Loop drivers with faults that a healthy storage does not have."""

import errno
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from cinder import exception, objects

from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder import pool_facts
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.drivers.loop import LoopDriver


class PlainDriver(LoopDriver):
    """No group snapshots, no list of what the storage has, no connections to several nodes, no online growth."""

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        self._stats["pools"][0].update(
            multiattach=False, online_extend_support=False, consistent_group_snapshot_enabled=False
        )

    def get_manageable_volumes(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def create_volume(self, volume: Any) -> Any:
        if volume.metadata["cinderbox.io/name"].startswith("broken"):
            super().create_volume(volume)
            raise exception.VolumeBackendAPIException(data="it broke, password=hunter2")
        return super().create_volume(volume)


class UncountedDriver(LoopDriver):
    """Does not know how much it has provisioned, as many drivers of arrays, and promises as much as is asked for."""

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        (pool,) = self._stats["pools"]
        del pool["provisioned_capacity_gb"]
        pool["max_over_subscription_ratio"] = 100_000.0


class WritingDriver(LoopDriver):
    """Says of every connection that it is for writing, as those of some arrays do."""

    def initialize_connection(self, *args: Any, **kwargs: Any) -> Any:
        info = super().initialize_connection(*args, **kwargs)
        info["data"]["access_mode"] = "rw"
        return info


class FaultyDriver(LoopDriver):
    """Fails for objects whose CSI name says so; each fault once per name where the name ends in ``-once``."""

    failed: ClassVar[set[str]] = set()
    down: ClassVar[bool] = False

    def _fails(self, item: Any, fault: str) -> bool:
        name = item.metadata["cinderbox.io/name"]
        if fault not in name or name in self.failed:
            return False
        if name.endswith("-once"):
            self.failed.add(name)
        return True

    def create_volume(self, volume: Any) -> Any:
        if self._fails(volume, "before"):
            raise exception.VolumeBackendAPIException(data="nothing was made, auth_password=hunter2")
        made = super().create_volume(volume)
        if self._fails(volume, "after"):
            raise exception.VolumeBackendAPIException(data="it was made, but")
        return made

    def delete_volume(self, volume: Any) -> None:
        if self._fails(volume, "undeletable"):
            raise exception.VolumeBackendAPIException(data="cannot be deleted")
        if self._fails(volume, "silent"):
            return
        if self._fails(volume, "needed"):
            raise exception.VolumeIsBusy(volume_name=volume.name)
        super().delete_volume(volume)

    def create_snapshot(self, snapshot: Any) -> Any:
        made = super().create_snapshot(snapshot)
        if self._fails(snapshot, "after"):
            raise exception.VolumeBackendAPIException(data="it was made, but")
        return made

    def delete_snapshot(self, snapshot: Any) -> None:
        if self._fails(snapshot, "busy"):
            raise exception.SnapshotIsBusy(snapshot_name=snapshot.name)
        super().delete_snapshot(snapshot)

    def create_group_snapshot(self, context: Any, group_snapshot: Any, snapshots: Any) -> Any:
        made = super().create_group_snapshot(context, group_snapshot, snapshots)
        if self.failed_group_snapshots:
            self.failed_group_snapshots.pop()
            raise exception.VolumeBackendAPIException(data="they were made, but")
        return made

    failed_group_snapshots: ClassVar[list[str]] = []

    def extend_volume(self, volume: Any, new_size: int) -> None:
        if self._fails(volume, "rigid"):
            raise exception.VolumeBackendAPIException(data="cannot grow")
        super().extend_volume(volume, new_size)

    def retype(self, context: Any, volume: Any, new_type: Any, diff: Any, host: Any) -> Any:
        if self._fails(volume, "rigid"):
            return False, None
        return super().retype(context, volume, new_type, diff, host)

    def initialize_connection(self, volume: Any, connector: Any, **kwargs: Any) -> Any:
        if self._fails(volume, "unreachable"):
            raise TimeoutError("the array does not answer")
        return super().initialize_connection(volume, connector, **kwargs)

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        if self.down:
            self._stats["pools"][0]["backend_state"] = "down"


class TunableDriver(LoopDriver):
    """Has QoS, by its own word."""

    QOS_SPECS = ("a", "b", "d", "e", "total_iops_sec")

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        self._stats["pools"][0]["QoS_support"] = True


class UnmarkedDriver(LoopDriver):
    """Deletes what is not there, as drivers of arrays do."""

    def delete_volume(self, volume: Any) -> None:
        if self._path(volume).exists():
            super().delete_volume(volume)


class ForgetfulDriver(LoopDriver):
    """Takes nothing away, and says that it is not there: what ``word`` makes of its id."""

    word: ClassVar[Callable[[str], Exception]]
    stats_fail: ClassVar[bool] = False
    lists: ClassVar[Callable[[list[Any]], list[Any]]] = list
    """What becomes of the list of all volumes."""

    def remove_export(self, context: Any, volume: Any) -> None:
        if not self._path(volume).exists():
            raise exception.VolumeNotFound(volume_id=volume.id)

    def delete_volume(self, volume: Any) -> None:
        raise type(self).word(volume.id)

    def delete_snapshot(self, snapshot: Any) -> None:
        raise type(self).word(snapshot.id)

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> None:
        raise type(self).word(volume.id)

    def delete_group_snapshot(self, context: Any, group_snapshot: Any, snapshots: Any) -> Any:
        raise type(self).word(group_snapshot.id)

    def update_group(self, context: Any, group: Any, add_volumes: Any = None, remove_volumes: Any = None) -> Any:
        if remove_volumes:
            raise exception.GroupNotFound(group_id=group.id)
        return super().update_group(context, group)

    def delete_group(self, context: Any, group: Any, volumes: Any) -> Any:
        raise exception.GroupNotFound(group_id=f"group-{group.id}")

    def get_manageable_volumes(self, *args: Any, **kwargs: Any) -> Any:
        return type(self).lists(super().get_manageable_volumes(*args, **kwargs))

    def _update_volume_stats(self) -> None:
        if self.stats_fail:
            raise exception.VolumeBackendAPIException(data="out of reach")
        super()._update_volume_stats()


class FullDriver(LoopDriver):
    """Has room for volumes, and for nothing that is made of them."""

    def _refuse(self, *arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    create_snapshot = create_group_snapshot = retype = _refuse


class ShareDriver(LoopDriver):
    """Says that its files are on a share."""

    def initialize_connection(self, volume: Any, connector: Any, **kwargs: Any) -> Any:
        return super().initialize_connection(volume, connector) | {"driver_volume_type": "nfs"}


class InitiatorDriver(LoopDriver):
    """Lets in hosts by the names of their initiators, and says that it speaks iSCSI."""

    allowed: ClassVar[dict[str, set[str]]] = {}
    """Initiators by id of the volume."""
    refused: ClassVar[str] = ""

    def initialize_connection(self, volume: Any, connector: Any, **kwargs: Any) -> Any:
        if connector["initiator"] == self.refused:
            raise exception.VolumeBackendAPIException(data=f"{self.refused} is refused")
        self.allowed.setdefault(volume.id, set()).add(connector["initiator"])
        return super().initialize_connection(volume, connector) | {"driver_volume_type": "iscsi"}

    def terminate_connection(self, volume: Any, connector: Any, **kwargs: Any) -> None:
        self.allowed[volume.id].discard(connector["initiator"])


class LinkedDriver(LoopDriver):
    """Volumes that are made from a snapshot need it, as linked clones do."""

    def delete_snapshot(self, snapshot: Any) -> None:
        if Backend.store.find(VolumeRecord, snapshot_id=snapshot.id):
            raise exception.SnapshotIsBusy(snapshot_name=snapshot.name)
        super().delete_snapshot(snapshot)


class JointDriver(LoopDriver):
    """A group snapshot is one object of the storage."""

    group_snapshot_members_are_independent = False

    def delete_snapshot(self, snapshot: Any) -> None:
        assert snapshot.group_snapshot_id is None, "not alone"
        super().delete_snapshot(snapshot)

    def delete_group_snapshot(self, context: Any, group_snapshot: Any, snapshots: Any) -> Any:
        assert len(snapshots) == 2
        return self._delete_each(snapshots, super().delete_snapshot)


class SlowDriver(LoopDriver):
    """Making a volume takes a second, or as long as ``gate`` is closed for names that begin with ``gated``."""

    gate: ClassVar[threading.Event] = threading.Event()
    started: ClassVar[threading.Event] = threading.Event()
    entered: ClassVar[list[str]] = []
    """Names of the volumes for which ``gate`` was waited for."""

    def create_volume(self, volume: Any) -> Any:
        name = volume.metadata["cinderbox.io/name"]
        if name.startswith("gated"):
            self.entered.append(name)
            self.started.set()
            self.gate.wait(30)
        else:
            time.sleep(1)
        return super().create_volume(volume)


class StuckDriver(FaultyDriver):
    """Deletes nothing as long as ``gate`` is closed."""

    gate: ClassVar[threading.Event] = threading.Event()
    started: ClassVar[threading.Event] = threading.Event()

    def delete_volume(self, volume: Any) -> None:
        self.started.set()
        self.gate.wait(60)
        super().delete_volume(volume)


class GatedDriver(LoopDriver):
    """Creates what has a name that begins with ``gated``, of each kind, when ``gate`` is open."""

    gate: ClassVar[threading.Event] = threading.Event()
    started: ClassVar[threading.Event] = threading.Event()

    def _wait(self, item: Any) -> None:
        if item.metadata["cinderbox.io/name"].startswith("gated"):
            self.started.set()
            assert self.gate.wait(60)

    def create_volume(self, volume: Any) -> Any:
        self._wait(volume)
        return super().create_volume(volume)

    def retype(self, *arguments: Any) -> Any:
        self.started.set()
        assert self.gate.wait(60)
        return True

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> Any:
        self._wait(volume)
        return super().create_volume_from_snapshot(volume, snapshot)

    def create_snapshot(self, snapshot: Any) -> Any:
        self._wait(snapshot)
        return super().create_snapshot(snapshot)

    def create_group_snapshot(self, context: Any, group_snapshot: Any, snapshots: Any) -> Any:
        self._wait(snapshots[0])
        return super().create_group_snapshot(context, group_snapshot, snapshots)


class UnreachableDriver(LoopDriver):
    """Waits for its storage when it starts, until that turns out not to be reachable."""

    answered: ClassVar[threading.Event] = threading.Event()

    def do_setup(self, context: Any) -> None:
        self.answered.wait(60)
        raise exception.VolumeBackendAPIException(data="cannot be reached")


class KeyringDriver(LoopDriver):
    """Has a keyring for its nodes, as RBD's."""

    def _set_keyring_attributes(self) -> None: ...


class FillingDriver(LoopDriver):
    """Its pool is full in every way that there is, and more of it is promised than may be."""

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        self._stats["pools"][0].update(
            {
                "total_capacity_gb": 100.0,
                "free_capacity_gb": 1.0,
                "provisioned_capacity_gb": 500.0,
                pool_facts.METADATA_PERCENT: 95.0,
                pool_facts.SNAPSHOT_PERCENT: 95.0,
                pool_facts.INVALID_SNAPSHOTS: ["a-snapshot"],
            }
        )


class AwayDriver(LoopDriver):
    """Its storage was there when it started, and is down now."""

    def _update_volume_stats(self) -> None:
        super()._update_volume_stats()
        self._stats["pools"][0]["backend_state"] = "down"


class RemoteFSSnapDriverBase(PlainDriver):
    """Begins a clone with a snapshot of its source, as Cinder's drivers for shares do, which are known by this name."""

    is_killed: ClassVar[bool] = False
    """Whether it dies before it deletes that snapshot."""

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> Any:
        values = {"status": "creating", "volume_size": src_vref.size, "display_name": f"tmp-snap-{volume.id}"}
        snapshot = objects.Snapshot(context=CONTEXT, volume_id=src_vref.id, user_id="u", project_id="p", **values)
        snapshot.create()
        self.create_snapshot(snapshot)
        made = super().create_cloned_volume(volume, src_vref)
        if not self.is_killed:
            self.delete_snapshot(snapshot)
            snapshot.destroy()
        return made
