"""Calls that come while the store reads its records again."""

import threading

import grpc
import pytest

from csi_plugin.controller import current_records
from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.wrapping_store import WrappingStore
from csi_plugin.storage.backend import Backend
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import create_request
from tests.support.polling import wait_until

HOURS = 3600 * 10


class StoreBehind(WrappingStore):
    """Has lost touch, until is_behind is False."""

    def __init__(self, inner: RecordStore) -> None:
        super().__init__(inner)
        self.is_behind = True
        self.waiting: list[threading.Event] = []

    def is_current(self) -> bool:
        return not self.is_behind

    def tell_when_current(self, event: threading.Event) -> None:
        self.waiting.append(event)

    def catch_up(self) -> None:
        self.is_behind = False
        for event in self.waiting:
            event.set()


@pytest.fixture
def store(plugin: Plugin) -> StoreBehind:
    return StoreBehind(Backend.store)


def create(plugin: Plugin, name: str, timeout: float = HOURS) -> grpc.Future:
    return plugin.controller.CreateVolume.future(create_request(name), timeout=timeout)


def test_they_wait_as_long_as_their_callers_and_no_more_of_them_than_may(
    plugin: Plugin, serve: Serve, store: StoreBehind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current_records, "WAIT_SECONDS", HOURS)
    behind = serve(beside=plugin, store=store, most_waiting_for_store=1)
    first = create(behind, "pvc-1")
    wait_until(lambda: store.waiting, lambda: "it does not wait")
    assert create(behind, "pvc-2").code() is grpc.StatusCode.UNAVAILABLE
    first.cancel()

    def waits_in_its_place() -> bool:
        following.append(create(behind, "pvc-3"))
        wait_until(lambda: following[-1].done() or len(store.waiting) > 1, lambda: "it neither waits nor ends")
        return not following[-1].done()

    following: list[grpc.Future] = []
    wait_until(waits_in_its_place, lambda: "the place of the call that was cancelled is not given back")
    store.catch_up()
    volume_id = following[-1].result().volume.volume_id
    assert plugin.list() == [volume_id]


def test_a_caller_has_its_answer_before_it_gives_up(plugin: Plugin, serve: Serve, store: StoreBehind) -> None:
    behind = serve(beside=plugin, store=store)
    assert create(behind, "pvc-1", timeout=2).code() is grpc.StatusCode.UNAVAILABLE
    assert plugin.list() == []
