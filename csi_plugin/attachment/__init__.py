"""From Cinder's connection information to a block device of this host, and back.

Used by the library in its own process, and by the node through a process that ends after use (``python -m
csi_plugin.attachment``), so that the node itself stays small. os-brick is imported when it is needed.
"""

from csi_plugin.attachment.devices import AttachmentError, attach, connector_properties, detach, extend

__all__ = ["AttachmentError", "attach", "connector_properties", "detach", "extend"]
