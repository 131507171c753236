"""A Cinder volume driver that does nothing but remember its calls, for what no real storage can be made to do."""

import threading
from typing import Any

from cinder import exception, interface
from cinder.volume import configuration, driver
from oslo_config import cfg

recording_opts = [
    cfg.IntOpt("recording_free_gb", default=10, min=0, help="Free capacity of each pool."),
    cfg.ListOpt("recording_pools", default=["one"], help="Names of the pools."),
    cfg.StrOpt("recording_label", default="", help="Any text."),
    cfg.StrOpt("recording_secret", secret=True, help="A secret with a form.", regex="^[a-z]+$"),
    cfg.StrOpt("recording_password", secret=True, help="A secret of any form."),
    cfg.StrOpt("recording_other", help="Any other text."),
    cfg.MultiOpt("recording_devices", item_type=cfg.types.Dict(), help="Like replication_device."),
    cfg.BoolOpt("recording_multiattach", default=False, help="What the stats say.", deprecated_name="old_multiattach"),
]
cfg.CONF.register_opts(recording_opts, group=configuration.SHARED_CONF_GROUP)


@interface.volumedriver
class RecordingDriver(driver.VolumeDriver):
    """``calls`` has the name of every call and its volume's id; ``fail`` the names of calls that raise."""

    VERSION = "1"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.configuration.append_config_values(recording_opts)
        self.calls: list[tuple[str, str | None]] = []
        self.fail: set[str] = set()
        self.stats_gate = threading.Event()
        self.stats_gate.set()
        self.stats_read = 0
        self.free = self.configuration.recording_free_gb

    @classmethod
    def get_driver_options(cls) -> list[cfg.Opt]:
        return recording_opts

    def _record(self, name: str, subject: Any = None) -> None:
        self.calls.append((name, getattr(subject, "id", None)))
        if name in self.fail:
            raise exception.VolumeBackendAPIException(data=f"{name} fails, as wanted")

    def do_setup(self, context: Any) -> None:
        self._record("do_setup")
        if self.configuration.recording_label == "out of reach":
            raise exception.VolumeBackendAPIException(data="the array is out of reach")

    def check_for_setup_error(self) -> None:
        self._record("check_for_setup_error")

    def get_volume_stats(self, refresh: bool = False) -> dict[str, Any]:
        self.stats_read += 1
        self.stats_gate.wait(30)
        if "get_volume_stats" in self.fail:
            raise exception.VolumeBackendAPIException(data="no stats, as wanted")
        pool = {
            "total_capacity_gb": 100,
            "free_capacity_gb": self.free,
            "provisioned_capacity_gb": 0,
            "reserved_percentage": 0,
            "multiattach": self.configuration.recording_multiattach,
            "colour": "red",
        }
        return {
            "volume_backend_name": self.configuration.volume_backend_name,
            "vendor_name": "Tests",
            "driver_version": "1",
            "storage_protocol": "iSCSI",
            "pools": [pool | {"pool_name": name} for name in self.configuration.recording_pools],
        }

    def update_provider_info(self, volumes: Any, snapshots: Any) -> tuple[Any, Any]:
        self._record("update_provider_info")
        return (
            [{"id": volume.id, "provider_id": f"new-{volume.id[:4]}"} for volume in volumes],
            [{"id": snapshot.id, "provider_id": "new-snapshot"} for snapshot in snapshots],
        )

    def create_volume(self, volume: Any) -> dict[str, Any]:
        self._record("create_volume", volume)
        return {"provider_id": "p"}

    def delete_volume(self, volume: Any) -> None:
        self._record("delete_volume", volume)

    def ensure_export(self, context: Any, volume: Any) -> dict[str, Any]:
        self._record("ensure_export", volume)
        return {"provider_location": "exported again"}

    def create_export(self, context: Any, volume: Any, connector: Any) -> dict[str, Any]:
        self._record("create_export", volume)
        return {"provider_location": "exported"}

    def remove_export(self, context: Any, volume: Any) -> None:
        self._record("remove_export", volume)

    def validate_connector(self, connector: Any) -> None:
        if "initiator" not in connector:
            raise exception.InvalidConnectorException(missing="initiator")

    def initialize_connection(self, volume: Any, connector: Any) -> dict[str, Any]:
        self._record("initialize_connection", volume)
        return {"driver_volume_type": "iscsi", "data": {"target_lun": 1}}

    def terminate_connection(self, volume: Any, connector: Any, **keywords: Any) -> None:
        self._record("terminate_connection", volume)

    def create_snapshot(self, snapshot: Any) -> None:
        self._record("create_snapshot", snapshot)

    def delete_snapshot(self, snapshot: Any) -> None:
        self._record("delete_snapshot", snapshot)

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        self._record("create_volume_from_snapshot", volume)
