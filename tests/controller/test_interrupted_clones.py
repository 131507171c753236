"""What a clone that a crash cut off leaves at its source."""

from typing import Any

import pytest

from csi_plugin.persistence.records import Phase, SnapshotRecord, VolumeRecord
from csi_plugin.storage.cinder.adaptations import remotefs_copies
from tests.controller.drivers import RemoteFSSnapDriverBase
from tests.controller.plugin import Serve
from tests.support.csi import from_volume


def test_the_snapshot_that_an_interrupted_clone_took_of_its_source_goes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a driver for shares: the source was qcow2, which no node attaches, and was never deleted."""
    monkeypatch.setattr(remotefs_copies, "complete", lambda *_: None)
    plugin = serve(driver=f"tests.controller.drivers.{RemoteFSSnapDriverBase.__name__}", settle_seconds=0)
    source = plugin.create("pvc-source").volume_id
    with monkeypatch.context() as dying:
        dying.setattr(RemoteFSSnapDriverBase, "is_killed", True)
        first = plugin.create("pvc-1", volume_content_source=from_volume(source)).volume_id
    record: Any = plugin.store.get(VolumeRecord, first)
    record.status, record.intent.phase = "creating", Phase.CREATING
    plugin.store.update(record)
    second = plugin.create("pvc-1", volume_content_source=from_volume(source)).volume_id
    plugin.delete(source)
    assert [record.volume_id for record in plugin.store.find(SnapshotRecord)] == [source]

    for _ in range(2):
        plugin.service.recovery.run_once()

    assert plugin.store.find(SnapshotRecord) == []
    held: Any = plugin.store.get(VolumeRecord, first)
    assert "cannot list" in held.intent.condition
    assert plugin.files() == sorted(f"volume-{volume_id}" for volume_id in (first, second))
