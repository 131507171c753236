"""Options of single drivers that neither their class nor its imports tell of."""

from oslo_config import cfg

from csi_plugin.storage.cinder.adaptations import rbd_map_options

MODULES_LOADED_BY_NAME: dict[str, tuple[str, ...]] = {
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

UNDEFINED_OPTIONS: dict[str, tuple[cfg.Opt, ...]] = {
    "RBDDriver": (
        cfg.StrOpt("rbd_keyring_conf", default="", help="Path of the keyring file of the Ceph user"),
        rbd_map_options.OPTION,
    ),
}
"""By class name: options that a driver reads without defining them, beyond those found in its source. Cinder dropped
rbd_keyring_conf as a risk to its services, and RBD still reads it; the other is this project's."""

ACCEPTED_UNREGISTERED = {option.dest: option for options in UNDEFINED_OPTIONS.values() for option in options}
