"""What Cinder's database functions of every kind stand on."""

from csi_plugin.persistence.base import RecordStore
from csi_plugin.storage.database.record_access import RecordAccess
from csi_plugin.storage.database.related_rows import RelatedRows


class DatabaseFunctions:
    """Functions over one store, each with the name, arguments and answer of the one in ``cinder.db.api``."""

    def __init__(self, store: RecordStore) -> None:
        self._store = store
        self._records = RecordAccess(store)
        self._rows = RelatedRows(self._records)
