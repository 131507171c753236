"""Connection information: what Cinder's volume manager adds to a driver's, and the connector that reads it."""

from collections.abc import Mapping
from typing import Any

_PER_GIB_LIMITS = (
    "read_iops_sec",
    "read_bytes_sec",
    "write_iops_sec",
    "write_bytes_sec",
    "total_iops_sec",
    "total_bytes_sec",
)

_BLOCK_SIZES = {
    "512": {"physical_block_size": "512", "logical_block_size": "512"},
    "512e": {"physical_block_size": "4096", "logical_block_size": "512"},
    "4k": {"physical_block_size": "4096", "logical_block_size": "4096"},
}
"""By Cinder's option disk_geometry; text, as Cinder's connectors expect it."""


def complete(
    driver: Any, volume: Any, connector: Mapping[str, Any], connection_info: dict[str, Any], attach_mode: str | None
) -> None:
    """Complete the connection information that a driver answered for a volume. ``attach_mode`` counts for more than
    what the driver says: several say ``rw`` of every connection."""
    data = connection_info["data"]
    data["qos_specs"] = _front_end_qos(volume)
    data["access_mode"] = attach_mode or data.get("access_mode", "rw")
    data["enforce_multipath"] = connector.get("enforce_multipath", False)
    if data.get("encrypted") is None:
        data["encrypted"] = bool(volume.encryption_key_id)
    if volume.volume_type_id and volume.volume_type:
        cacheable = (volume.volume_type.extra_specs or {}).get("cacheable") == "<is> True"
        data["cacheable"] = cacheable and bool(data.get("cacheable", True))
    if "physical_block_size" not in data and "logical_block_size" not in data:
        data.update(_BLOCK_SIZES.get(driver.configuration.safe_get("disk_geometry"), {}))
    if data.get("discard") is None and driver.configuration.safe_get("report_discard_supported"):
        data["discard"] = True


def get_connector(connection_info: Mapping[str, Any], *, multipath: bool, scan_attempts: int) -> Any:
    """os-brick's connector for complete connection information, with Cinder's root helper."""
    from cinder.volume import volume_utils

    return volume_utils.brick_get_connector(
        connection_info["driver_volume_type"],
        use_multipath=multipath,
        device_scan_attempts=scan_attempts,
        conn=connection_info,
        do_local_attach=True,
    )


def _front_end_qos(volume: Any) -> dict[str, Any] | None:
    """QoS that the host enforces, with limits per GiB worked out for this volume's size."""
    qos = volume.volume_type.qos_specs if volume.volume_type_id and volume.volume_type else None
    if not qos or qos.consumer not in ("front-end", "both"):
        return None
    specs = dict(qos.specs)
    for limit in _PER_GIB_LIMITS:
        per_gib = specs.pop(f"{limit}_per_gb", None)
        if per_gib is None:
            continue
        least = int(specs.pop(f"{limit}_per_gb_min", 0))
        value = max(least, int(per_gib) * int(volume.size))
        specs[limit] = min(value, int(specs.pop(f"{limit}_max", value)))
    return specs
