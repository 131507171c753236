"""The persistence interface.

Two faces of one thing:

* ``PersistenceDriverBase`` is what a third-party plugin inherits from: the property ``db`` and twelve methods over the
  library's objects (Volume, Snapshot, Connection, KeyValue), as cinderlib documented them, plus optional abilities that
  have defaults. A plugin with just those methods works.
* ``RecordStore`` is what the rest of Cinderbox talks to: six methods over plain records. The built-in plugins implement
  it natively; ``csi_plugin.storage.object_plugin`` puts it on top of a third-party plugin.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeVar

from csi_plugin.persistence.records import Record

R = TypeVar("R", bound=Record)


class PersistenceError(Exception):
    """Base of the errors that a store raises. gRPC: UNAVAILABLE unless a subclass says otherwise."""


class RecordExists(PersistenceError):
    """create() met a record of the same kind and id. gRPC: ABORTED (another caller won)."""


class RecordNotFound(PersistenceError):
    """update() of a record that is not there. gRPC: ABORTED (another caller deleted it)."""


class RevisionConflict(PersistenceError):
    """update() of a record that someone else has written since it was read. gRPC: ABORTED."""


class RecordStore(ABC):
    """Keeps records. Every method is thread-safe and returns copies: changing a record changes nothing until update().

    A write that has returned survives a crash of the process (and of the machine, for plugins that persist at all).
    """

    ATOMIC_ACROSS_PROCESSES: ClassVar[bool] = False
    """Whether create() and update() are atomic between processes; a standby replica needs it."""

    @abstractmethod
    def create(self, record: R) -> R:
        """Store a new record and return it with revision 1 and ``created_at`` set (unless it came with one).

        Raises RecordExists when one of its kind and id is there; exactly one of several concurrent callers wins.
        """

    @abstractmethod
    def update(self, record: R) -> R:
        """Replace the stored record if it still has ``record.revision``; return it with the next revision.

        Raises RevisionConflict or RecordNotFound; nothing was changed then.
        """

    @abstractmethod
    def delete(self, record: Record) -> None:
        """Remove the record of that kind and id, whatever its revision. Removing an absent one does nothing."""

    @abstractmethod
    def get(self, kind: type[R], record_id: str) -> R | None:
        """The record of that kind and id, or None."""

    @abstractmethod
    def find(
        self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None
    ) -> list[R]:
        """Records of a kind whose ``keys`` (names out of kind.KEYS) have the given values, in order of id.

        Keyset paging: at most ``limit`` records with an id greater than ``after``. A key given as None is ignored.
        Raises ValueError for a name that is not in kind.KEYS.
        """

    @abstractmethod
    def health(self) -> None:
        """Raise PersistenceError when the store cannot serve right now. Cheap: it runs at every Probe."""

    @abstractmethod
    def close(self) -> None:
        """Give back connections and files. The store cannot be used afterwards. Repeating it does nothing."""

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        """Take or renew a lease that expires by itself; False when another holder has it.

        Only stores that are atomic across processes have it; others raise NotImplementedError.
        """
        raise NotImplementedError(f"{type(self).__name__} has no lease")

    def release_lease(self, name: str, *, holder: str) -> None:
        """Let go of a lease so that another holder need not wait for it to expire."""
        raise NotImplementedError(f"{type(self).__name__} has no lease")


class PersistenceDriverBase:
    """Base of third-party plugins; see the persistence page of the documentation for a complete example.

    ``__init__`` receives the keys of ``persistence_config`` other than ``storage``. The objects handed to set_* carry
    Cinder's versioned object as ``_ovo`` and serialise with ``.jsons``/``.dumps``; ``csi_plugin.load`` makes objects
    of those again.
    """

    def __init__(self, **kwargs: Any) -> None:
        pass

    @property
    def db(self) -> Any:
        """What Cinder drivers get as their database; None lets Cinderbox answer from this plugin."""
        raise NotImplementedError

    def get_volumes(
        self, volume_id: str | None = None, volume_name: str | None = None, backend_name: str | None = None
    ) -> list[Any]:
        raise NotImplementedError

    def get_snapshots(
        self, snapshot_id: str | None = None, snapshot_name: str | None = None, volume_id: str | None = None
    ) -> list[Any]:
        raise NotImplementedError

    def get_connections(self, connection_id: str | None = None, volume_id: str | None = None) -> list[Any]:
        raise NotImplementedError

    def get_key_values(self, key: str | None = None) -> list[Any]:
        raise NotImplementedError

    def set_volume(self, volume: Any) -> None:
        raise NotImplementedError

    def set_snapshot(self, snapshot: Any) -> None:
        raise NotImplementedError

    def set_connection(self, connection: Any) -> None:
        raise NotImplementedError

    def set_key_value(self, key_value: Any) -> None:
        raise NotImplementedError

    def delete_volume(self, volume: Any) -> None:
        raise NotImplementedError

    def delete_snapshot(self, snapshot: Any) -> None:
        raise NotImplementedError

    def delete_connection(self, connection: Any) -> None:
        raise NotImplementedError

    def delete_key_value(self, key_value: Any) -> None:
        raise NotImplementedError
