"""A volume's snapshots and connections: what they have in common, and the lists that the volume has of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from csi_plugin.persistence.records import ConnectionRecord, Record, SnapshotRecord, VolumeRecord
from csi_plugin.storage.cinder import objects
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.library_state import STATE, class_of, find_objects
from csi_plugin.storage.live_list import LiveList
from csi_plugin.storage.resource import Resource

if TYPE_CHECKING:
    from csi_plugin.storage.volume import Volume


def store_loaded(volume: "Volume") -> None:
    """Store a volume out of a JSON form, and what came along with it, over what is there."""
    for resource in (volume, *volume.loaded_relatives()):
        resource.save()
        if STATE.shares_objects:
            resource._share(replacing=True)
    if not isinstance(volume.backend, str):
        volume.backend._known_volumes.add(volume)


def keep_loaded(volume: "Volume") -> None:
    """Store one that was loaded without that, unless the store has it: what is done with it and with what refers to it
    is decided by records."""
    if not (volume.revision or volume._is_new) and STATE.store.get(VolumeRecord, volume._ovo.id) is None:
        store_loaded(volume)


class VolumeChild(Resource):
    """A resource of one volume, which is read when it is asked for."""

    _volume: "Volume | None"

    @classmethod
    def from_volume_object(cls, volume: "Volume", ovo: Any) -> Self:
        """The child for a versioned object that its volume's has brought along."""
        raise NotImplementedError

    def save(self) -> None:
        if self.revision == 0 and self._volume is not None:
            keep_loaded(self._volume)
        super().save()

    def refresh(self) -> None:
        """Read it again. Raises what ``get_by_id`` does when it is gone."""
        fresh: Any = self.from_record(self.stored_record(self._ovo.id))
        if self._volume is not None:
            _ = fresh.volume
        vars(self).clear()
        vars(self).update(vars(fresh))

    def loaded_relatives(self) -> "list[Volume]":
        return [self._volume] if self._volume is not None else []

    @property
    def volume(self) -> "Volume":
        """The volume that it is of."""
        if self._volume is None:
            self.volume = class_of(VolumeRecord).get_by_id(self._ovo.volume_id)
        assert self._volume is not None
        return self._volume

    @volume.setter
    def volume(self, value: "Volume") -> None:
        self._volume = value
        self._ovo.volume = value._ovo
        self._ovo.obj_reset_changes(("volume",))


@dataclass(frozen=True)
class ChildList:
    """One of a volume's two lists of children: read at the first use, and kept in step with Cinder's own list."""

    record_type: type[Record]
    attribute: str
    """Attribute of Volume with the children that were read, None before that."""
    ovo_field: str
    """Field of Cinder's volume with its list of them."""
    ovo_list: Any

    def read(self, volume: "Volume") -> list[Any]:
        """The volume's children, from the store if they have not been read."""
        children = self.cached(volume)
        if children is None:
            children = LiveList(find_objects(self.record_type, volume_id=volume._ovo.id))
            for child in children:
                child.volume = volume
            setattr(volume, self.attribute, children)
            ovos = [child._ovo for child in children]
            setattr(volume._ovo, self.ovo_field, self.ovo_list(context=CONTEXT, objects=ovos))
            volume._ovo.obj_reset_changes((self.ovo_field,))
        return children

    def cached(self, volume: "Volume") -> list[Any] | None:
        """The children that were read; None before that."""
        children: list[Any] | None = getattr(volume, self.attribute)
        return children

    def take_from_object(self, volume: "Volume") -> None:
        """Have the children that a loaded versioned object of the volume brings along."""
        if volume._ovo.obj_attr_is_set(self.ovo_field):
            child_class, children = class_of(self.record_type), LiveList[Any]()
            for ovo in getattr(volume._ovo, self.ovo_field).objects:
                ovo.volume = volume._ovo
                children.append(child_class.from_volume_object(volume, ovo))
            setattr(volume, self.attribute, children)

    def add(self, volume: "Volume", child: Any) -> None:
        """Have one more child, or another object of one, if they have been read."""
        children = self.cached(volume)
        if children is not None:
            self.remove(volume, child._ovo.id)
            children.append(child)
            getattr(volume._ovo, self.ovo_field).objects.append(child._ovo)

    def remove(self, volume: "Volume", child_id: str) -> None:
        children = self.cached(volume)
        if children is not None:
            children[:] = [found for found in children if found._ovo.id != child_id]
            ovos = getattr(volume._ovo, self.ovo_field).objects
            ovos[:] = [ovo for ovo in ovos if ovo.id != child_id]


SNAPSHOTS = ChildList(SnapshotRecord, "_snapshots", "snapshots", objects.SnapshotList)
CONNECTIONS = ChildList(ConnectionRecord, "_connections", "volume_attachment", objects.VolumeAttachmentList)
