"""What snapshots and connections have in common: they are of a volume, which is read when it is asked for."""

from typing import Any, Self

from csi_plugin.storage.resource import Resource
from csi_plugin.storage.volume import Volume


class VolumeRelative(Resource):
    """A resource of one volume."""

    _volume: Volume | None

    @classmethod
    def get_by_id(cls, resource_id: str) -> Self:
        """The one of that id."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Read it again. Raises what ``get_by_id`` does when it is gone."""
        fresh: Any = self.get_by_id(self._ovo.id)
        if self._volume is not None:
            _ = fresh.volume
        vars(self).clear()
        vars(self).update(vars(fresh))

    def loaded_relatives(self) -> list[Volume]:
        return [self._volume] if self._volume is not None else []

    @property
    def volume(self) -> Volume:
        """The volume that it is of."""
        if self._volume is None:
            self.volume = Volume.get_by_id(self._ovo.volume_id)
        assert self._volume is not None
        return self._volume

    @volume.setter
    def volume(self, value: Volume) -> None:
        self._volume = value
        self._ovo.volume = value._ovo
        self._ovo.obj_reset_changes(("volume",))
