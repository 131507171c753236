"""A Cinder driver of an array that is managed over the network, for controllers without privileges."""

from cinder import interface
from cinder.volume import driver


@interface.volumedriver
class RemoteArrayDriver(driver.VolumeDriver):
    def do_setup(self, context):
        pass

    def check_for_setup_error(self):
        pass

    def _update_volume_stats(self):
        pool = {"pool_name": "pool", "total_capacity_gb": 100, "free_capacity_gb": 100, "reserved_percentage": 0}
        self._stats = {
            "volume_backend_name": self.configuration.safe_get("volume_backend_name"),
            "vendor_name": "Test",
            "driver_version": "1",
            "storage_protocol": "iSCSI",
            "pools": [pool],
        }

    def create_volume(self, volume):
        return {"provider_location": f"192.0.2.10:3260,1 iqn.2026-11.example.array:{volume.id} 1"}

    def delete_volume(self, volume):
        pass

    def create_export(self, context, volume, connector):
        pass

    def ensure_export(self, context, volume):
        pass

    def remove_export(self, context, volume):
        pass

    def initialize_connection(self, volume, connector):
        raise NotImplementedError

    def terminate_connection(self, volume, connector, **kwargs):
        pass

    def extend_volume(self, volume, new_size):
        pass

    def create_snapshot(self, snapshot):
        pass

    def delete_snapshot(self, snapshot):
        pass

    def create_volume_from_snapshot(self, volume, snapshot):
        pass

    def create_cloned_volume(self, volume, src_vref):
        pass
