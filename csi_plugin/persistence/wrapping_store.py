"""A store in front of another one, to which it passes on what it does not do otherwise."""

import threading
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Any, TypeVar

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.leases import Fence, LeaseTerm
from csi_plugin.persistence.records import NodeRecord, Record

R = TypeVar("R", bound=Record)


class WrappingStore(RecordStore):
    """Answers every method as ``inner`` does; what is derived from it overrides those that it is for.

    A method of RecordStore with a body has to be here too, or the default would answer in place of the inner store.
    """

    def __init__(self, inner: RecordStore) -> None:
        self.inner = inner
        self.ATOMIC_ACROSS_PROCESSES = inner.ATOMIC_ACROSS_PROCESSES
        self.DERIVES_USE = inner.DERIVES_USE

    def create(self, record: R) -> R:
        return self.inner.create(record)

    def update(self, record: R) -> R:
        return self.inner.update(record)

    def delete(self, record: Record) -> None:
        self.inner.delete(record)

    def get(self, kind: type[R], record_id: str) -> R | None:
        return self.inner.get(kind, record_id)

    def find(self, kind: type[R], *, after: str | None = None, limit: int | None = None, **keys: str | None) -> list[R]:
        return self.inner.find(kind, after=after, limit=limit, **keys)

    def find_any(self, kind: type[R], key: str, values: Iterable[str]) -> list[R]:
        return self.inner.find_any(kind, key, values)

    def in_listing_order(self, records: list[R]) -> list[R]:
        return self.inner.in_listing_order(records)

    def recorded_gib(self, *, backend: str) -> dict[str, int]:
        return self.inner.recorded_gib(backend=backend)

    def nodes_named(self, names: Collection[str]) -> list[NodeRecord]:
        return self.inner.nodes_named(names)

    def nodes_silent_since(self, moment: datetime) -> list[NodeRecord]:
        return self.inner.nodes_silent_since(moment)

    def health(self) -> None:
        self.inner.health()

    def is_current(self) -> bool:
        return self.inner.is_current()

    def tell_when_current(self, event: threading.Event) -> None:
        self.inner.tell_when_current(event)

    def close(self) -> None:
        self.inner.close()

    def use_sealer(self, sealer: Any) -> None:
        self.inner.use_sealer(sealer)

    def use_fence(self, fence: Fence) -> None:
        self.inner.use_fence(fence)

    def use_connection_sealer(self, seal: Callable[[str, str], str]) -> None:
        self.inner.use_connection_sealer(seal)

    def use_connection_renewer(self, is_renewing: Callable[[str, str], bool]) -> None:
        self.inner.use_connection_renewer(is_renewing)

    def use_filesystem_recorder(self, take_over: Callable[[str], None]) -> None:
        self.inner.use_filesystem_recorder(take_over)

    def use_volume_health(self, read: Callable[[str], list[tuple[str, str]]]) -> None:
        self.inner.use_volume_health(read)

    def cluster_networks(self) -> list[str]:
        return self.inner.cluster_networks()

    def volume_health_changed(self, volume_ids: Iterable[str]) -> None:
        self.inner.volume_health_changed(volume_ids)

    def record_event(self, kind: type[Record], record_id: str, reason: str, message: str) -> None:
        self.inner.record_event(kind, record_id, reason, message)

    def start_upkeep(self) -> None:
        self.inner.start_upkeep()

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        return self.inner.acquire_lease(name, holder=holder, seconds=seconds)

    def lease_term(self, name: str) -> LeaseTerm:
        return self.inner.lease_term(name)

    def release_lease(self, name: str, *, holder: str) -> None:
        self.inner.release_lease(name, holder=holder)
