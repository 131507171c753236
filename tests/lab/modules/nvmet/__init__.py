"""The kernel's NVMe target through configfs, with the interface that Cinder's nvmet target uses.

The library that Cinder names is in no package registry. This one is for the storage lab: what Cinder calls, no more.
Layout and meaning of the files: the kernel's drivers/nvme/target/configfs.c.
"""

from nvmet.nvme import ANAGroup, CFSNotFound, Host, Namespace, Port, Referral, Root, Subsystem

__all__ = ["ANAGroup", "CFSNotFound", "Host", "Namespace", "Port", "Referral", "Root", "Subsystem"]
