"""A sealing key that was taken out of the Secret while records were sealed with it."""

from dataclasses import replace

import grpc
import pytest

from csi_plugin.persistence.records import ConnectionRecord, VolumeRecord
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.storage.backend import Backend
from csi_plugin.storage.library_state import STATE
from tests.controller.plugin import Serve
from tests.support.csi import fails

OLD, NEW = b"o" * 32, b"n" * 32


def test_what_no_key_opens_holds_its_volume_and_nothing_else(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    serve().backends.close()  # the library is set up, which has keys of its own
    monkeypatch.setattr(STATE, "sealing_keys", [OLD])
    plugin = serve()
    plugin.add_node("node-1")
    attached, secret, other = (plugin.create(name).volume_id for name in ("attached", "secret", "other"))
    plugin.publish(attached, "node-1")
    record = plugin.store.get(VolumeRecord, secret)
    assert record is not None
    plugin.store.update(replace(record, provider_auth="CHAP user password"))

    rotated = SealingStore(Backend.persistence, Sealer([NEW]))
    monkeypatch.setattr(STATE, "store", rotated)
    plugin.backends.close()
    plugin = serve(directory=plugin.directory)

    assert sorted(plugin.list()) == sorted([attached, secret, other])
    plugin.publish(other, "node-1")
    plugin.unpublish(other, "node-1")
    plugin.delete(other)
    plugin.create("another")
    lost = (grpc.StatusCode.FAILED_PRECONDITION, "opens with none of the sealing keys", "put the key back")
    with fails(*lost, attached):
        plugin.publish(attached, "node-1")
    with fails(*lost):
        plugin.unpublish(attached, "node-1")
    with fails(*lost, secret):
        plugin.delete(secret)
    assert f"volume-{secret}" in plugin.files()

    rotated.sealer = Sealer([NEW, OLD])
    rotated.inner.use_sealer(rotated.sealer)
    assert rotated.reseal() == 2
    plugin.unpublish(attached, "node-1")
    plugin.delete(secret)
    assert not plugin.store.find(ConnectionRecord)
