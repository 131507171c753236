"""Where single drivers have options that neither their class nor its imports tell of."""

ACCEPTED_UNREGISTERED = {"rbd_keyring_conf"}
"""Options that a driver reads without defining them, beyond those found in its source: Cinder dropped this one's
definition as a risk to its services, and RBD still reads it."""

LOADED_BY_NAME: dict[str, tuple[str, ...]] = {
    "cinder.volume.drivers.ibm.ibm_storage.ibm_storage": ("cinder.volume.drivers.ibm.ibm_storage.ds8k_proxy",),
    "cinder.volume.drivers.netapp.common": (
        "cinder.volume.drivers.netapp.dataontap.fc_cmode",
        "cinder.volume.drivers.netapp.dataontap.iscsi_cmode",
        "cinder.volume.drivers.netapp.dataontap.nfs_cmode",
        "cinder.volume.drivers.netapp.dataontap.nvme_cmode",
        "cinder.volume.drivers.nfs",
        "cinder.volume.drivers.remotefs",
    ),
}
"""Modules with options of their own that a driver's module loads at run time, by a name that is no import."""
