"""What the thirteen documented methods of a plugin promise, over the library's objects."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from csi_plugin.persistence.builtin_plugin import BuiltinPlugin
from csi_plugin.persistence.records import (
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.persistence_contract.plugins import Plugin, PluginContract, open_store
from csi_plugin.storage.persistence_contract.samples import new_id, samples


class ObjectContract(PluginContract):
    """What the thirteen documented methods promise, over the library's objects."""

    @pytest.fixture
    def plugin(self, make_plugin: Callable[[], Plugin], library: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        plugin: Any = make_plugin()
        if isinstance(plugin, BuiltinPlugin):
            plugin.codec = library
        monkeypatch.setattr(STATE, "persistence", plugin)
        monkeypatch.setattr(STATE, "store", open_store(plugin))
        yield plugin
        plugin.close()

    @pytest.fixture
    def objects(self, plugin: Any, library: Any) -> dict[str, Any]:
        """A stored object of each kind, by name."""
        found = {}
        for record in samples():
            if isinstance(record, VolumeRecord):
                record.group_id = None  # groups are no objects of plugins
            if isinstance(record, SnapshotRecord):
                record.group_snapshot_id = None
            if record.KIND in ("volume", "snapshot", "connection", "key_value"):
                found[record.KIND] = library.to_object(record)
                getattr(plugin, f"set_{record.KIND}")(found[record.KIND])
        return found

    def test_objects_are_found_by_id_with_their_content(
        self, plugin: Any, objects: dict[str, Any], library: Any
    ) -> None:
        for kind, obj in objects.items():
            id_ = obj.key if kind == "key_value" else obj.id
            given, found = library.to_record(obj), getattr(plugin, f"get_{kind}s")(id_)
            assert [type(item) for item in found] == [type(obj)]
            got = library.to_record(found[0])
            for name in ("id", "display_name", "metadata", "extra_specs", "qos_specs", "provider_auth"):
                assert getattr(got, name, None) == getattr(given, name, None)
            for name in ("size", "host", "backend", "volume_id", "connection_info", "connector", "value"):
                assert getattr(got, name, None) == getattr(given, name, None)

    def test_an_absent_one_is_an_empty_list(self, plugin: Any) -> None:
        for kind in ("volume", "snapshot", "connection", "key_value"):
            assert list(getattr(plugin, f"get_{kind}s")(new_id())) == []
            assert self.everything(plugin, kind) == []

    @staticmethod
    def everything(plugin: Any, kind: str) -> list[Any]:
        """All objects of a kind, without the key-values that Cinderbox keeps in the plugin."""
        found = getattr(plugin, f"get_{kind}s")()
        return [obj for obj in found if kind != "key_value" or not obj.key.startswith("cinderbox.")]

    def test_filters(self, plugin: Any, objects: dict[str, Any]) -> None:
        volume = objects["volume"]
        for filters, expected in (
            ({}, 1),
            ({"volume_id": "", "volume_name": None, "backend_name": ""}, 1),
            ({"volume_name": volume.display_name}, 1),
            ({"backend_name": "lvm"}, 1),
            ({"volume_id": volume.id, "volume_name": volume.display_name, "backend_name": "lvm"}, 1),
            ({"volume_name": "other"}, 0),
            ({"backend_name": "other"}, 0),
            ({"volume_id": volume.id, "volume_name": "other"}, 0),
        ):
            assert len(plugin.get_volumes(**filters)) == expected, filters
        for filters, expected in (
            ({}, 1),
            ({"snapshot_name": "snapshot"}, 1),
            ({"volume_id": volume.id}, 1),
            ({"snapshot_name": "other"}, 0),
            ({"volume_id": new_id()}, 0),
        ):
            assert len(plugin.get_snapshots(**filters)) == expected, filters
        assert len(plugin.get_connections(volume_id=volume.id)) == 1
        assert plugin.get_connections(volume_id=new_id()) == []

    def test_set_stores_changes(self, plugin: Any, objects: dict[str, Any]) -> None:
        volume = plugin.get_volumes(objects["volume"].id)[0]
        volume._ovo.display_name = "changed"
        assert plugin.get_changed_fields(volume)["display_name"] == "changed"
        plugin.set_volume(volume)
        assert plugin.get_changed_fields(volume) == {}
        assert [found.display_name for found in plugin.get_volumes()] == ["changed"]
        key_value = objects["key_value"]
        key_value.value = "changed"
        plugin.set_key_value(key_value)
        assert [found.value for found in plugin.get_key_values(key_value.key)] == ["changed"]

    def test_delete(self, plugin: Any, objects: dict[str, Any]) -> None:
        for kind in ("connection", "snapshot", "volume", "key_value"):
            obj = objects[kind]
            for _ in range(2):
                getattr(plugin, f"delete_{kind}")(obj)
                assert self.everything(plugin, kind) == []
            if kind != "key_value":
                assert obj._ovo.deleted

    def test_fields_of_an_object(self, plugin: Any, objects: dict[str, Any]) -> None:
        fields = plugin.get_fields(objects["volume"])
        assert fields["size"] == 7
        assert fields["extra_specs"] == {"compression": "<is> True"}
        assert fields["qos_specs"] == {"maxIOPS": "500"}
        assert "volume_type" not in fields
