"""The PersistentVolumes of Kubernetes beside our CinderVolumes: which of these are referred to, and which are not."""

from collections.abc import Callable
from datetime import datetime

from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.encoding import utc_now
from csi_plugin.persistence.initiators import Find
from csi_plugin.persistence.records import VolumeRecord


def persistent_volumes(api: ResourceAPI) -> dict[str, str]:
    """Names of the PersistentVolumes of CSI drivers, by volume handle. Raises PersistenceError."""
    found = {}
    for volume in api.list_in_cluster("", "v1", "persistentvolumes"):
        handle = (volume["spec"].get("csi") or {}).get("volumeHandle")
        if handle:
            found[str(handle)] = str(volume["metadata"]["name"])
    return found


class ClusterVolumes:
    """What the last list of PersistentVolumes says. One thread calls look(), others ask."""

    def __init__(self, api: ResourceAPI, find: Find, *, changed: Callable[[str], None]) -> None:
        """``changed(volume id)`` is called when what name_of() says may be new."""
        self._api = api
        self._find = find
        self._changed = changed
        self._names: dict[str, str] = {}
        self._asked_at: datetime | None = None

    def name_of(self, record: VolumeRecord) -> str | None:
        """Name of the PersistentVolume that refers to a volume; empty for none, None where it may still be made."""
        if name := self._names.get(record.id):
            return name
        is_new = self._asked_at is None or record.created_at is None or record.created_at >= self._asked_at
        return None if is_new else ""

    def look(self) -> None:
        """List the PersistentVolumes, and tell what is new. Raises PersistenceError."""
        before = {record.id: self.name_of(record) for record in self._find(VolumeRecord)}
        asked_at = utc_now()
        self._names, self._asked_at = persistent_volumes(self._api), asked_at
        for record in self._find(VolumeRecord):
            if self.name_of(record) != before.get(record.id):
                self._changed(record.id)
