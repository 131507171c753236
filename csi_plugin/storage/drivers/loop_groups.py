"""The loop driver's groups: volumes that are copied with the data of one moment."""

from collections.abc import Callable, Sequence
from typing import Any

from cinder import exception
from cinder.objects import fields
from oslo_log import log as logging

from csi_plugin.storage.drivers.loop_base import LoopDriverBase, Model

LOG = logging.getLogger(__name__)


class LoopGroups(LoopDriverBase):
    """Groups and group snapshots."""

    group_snapshot_members_are_independent = True
    """Each is a file of its own."""

    def create_group(self, context: Any, group: Any) -> Model:
        return {"status": fields.GroupStatus.AVAILABLE}

    def update_group(
        self, context: Any, group: Any, add_volumes: Any = None, remove_volumes: Any = None
    ) -> tuple[None, None, None]:
        return None, None, None

    def delete_group(self, context: Any, group: Any, volumes: Sequence[Any]) -> tuple[Model, list[Model]]:
        return self._delete_each(volumes, self.delete_volume)

    def create_group_from_src(
        self,
        context: Any,
        group: Any,
        volumes: Sequence[Any],
        group_snapshot: Any = None,
        snapshots: Sequence[Any] | None = None,
        source_group: Any = None,
        source_vols: Sequence[Any] | None = None,
    ) -> tuple[None, list[Model]]:
        if group_snapshot is not None:
            sources = {snapshot.id: snapshot for snapshot in snapshots or ()}
            pairs = [(sources[volume.snapshot_id], volume) for volume in volumes]
        else:
            sources = {source.id: source for source in source_vols or ()}
            pairs = [(sources[volume.source_volid], volume) for volume in volumes]
        self._copy(pairs)
        return None, [{"id": volume.id, **self._model(volume)} for volume in volumes]

    def create_group_snapshot(
        self, context: Any, group_snapshot: Any, snapshots: Sequence[Any]
    ) -> tuple[None, list[Model]]:
        """Snapshots of one moment: none of the volumes was written to between the first and the last of them."""
        self._copy([(snapshot.volume, snapshot) for snapshot in snapshots])
        return None, [
            {"id": snapshot.id, "status": fields.SnapshotStatus.AVAILABLE, **self._model(snapshot)}
            for snapshot in snapshots
        ]

    def delete_group_snapshot(
        self, context: Any, group_snapshot: Any, snapshots: Sequence[Any]
    ) -> tuple[Model, list[Model]]:
        return self._delete_each(snapshots, self.delete_snapshot)

    def _delete_each(self, items: Sequence[Any], delete: Callable[[Any], None]) -> tuple[Model, list[Model]]:
        updates = []
        for item in items:
            try:
                delete(item)
            except exception.CinderException as error:
                LOG.error("Deleting %s of a group failed: %s", item.name, error)
                updates.append({"id": item.id, "status": "error_deleting"})
            else:
                updates.append({"id": item.id, "status": "deleted"})
        failed = any(update["status"] != "deleted" for update in updates)
        return {"status": "error_deleting" if failed else "deleted"}, updates
