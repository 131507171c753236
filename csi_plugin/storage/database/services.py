"""Cinder's database functions about its services, about initiators and about volumes created from images."""

from typing import Any

from cinder import exception

from csi_plugin.persistence.base import RecordExists
from csi_plugin.persistence.records import KeyValueRecord
from csi_plugin.storage.database.functions import DatabaseFunctions
from csi_plugin.storage.database.rows import Row

_INITIATOR_DATA = "cinderbox/initiator-data/"


class ServiceFunctions(DatabaseFunctions):
    """No Cinder service runs here, so none is registered, as in the plugins on Cinder's own tables."""

    def service_get(
        self,
        context: Any,
        service_id: Any = None,
        backend_match_level: str | None = None,
        **filters: Any,
    ) -> Row:
        wanted = service_id or filters.get("topic") or filters.get("binary")
        raise exception.ServiceNotFound(service_id=wanted, host=filters.get("host"))

    def service_get_by_uuid(self, context: Any, service_uuid: str) -> Row:
        raise exception.ServiceNotFound(service_id=service_uuid)

    def service_get_all(self, context: Any, backend_match_level: str | None = None, **filters: Any) -> list[Row]:
        return []

    def is_backend_frozen(self, context: Any, host: str | None, cluster_name: str | None) -> bool:
        return False


class InitiatorDataFunctions(DatabaseFunctions):
    """What some drivers keep about initiators."""

    def driver_initiator_data_get(self, context: Any, initiator: str, namespace: str) -> list[Row]:
        prefix = f"{_INITIATOR_DATA}{namespace}/{initiator}/"
        # Nothing sorts between the prefix and the first key that starts with it.
        found = self._store.find(KeyValueRecord, after=prefix)
        data = []
        for record in found:
            if not record.id.startswith(prefix):
                break
            key = record.id.removeprefix(prefix)
            data.append(Row({"initiator": initiator, "namespace": namespace, "key": key, "value": record.value}))
        return data

    def driver_initiator_data_insert_by_key(
        self, context: Any, initiator: str, namespace: str, key: str, value: str
    ) -> Row:
        try:
            self._store.create(KeyValueRecord(id=f"{_INITIATOR_DATA}{namespace}/{initiator}/{key}", value=value))
        except RecordExists as error:
            raise exception.DriverInitiatorDataExists(initiator=initiator, namespace=namespace, key=key) from error
        return Row({"initiator": initiator, "namespace": namespace, "key": key, "value": value})


class ImageCacheFunctions(DatabaseFunctions):
    """Volumes created from images are kept by Cinder's image service code, which does not run here."""

    def image_volume_cache_get_by_volume_id(self, context: Any, volume_id: str) -> None:
        return

    def image_volume_cache_get_all(self, context: Any, **filters: Any) -> list[Row]:
        return []
