"""From Cinder's connection information to a block device of this host, and back.

Used by the library in its own process, and by the node through a process that ends after use (``python -m
csi_plugin.attachment``), so that the node itself stays small. os-brick is imported when it is needed.
"""

from csi_plugin.attachment.connectors import connector_properties
from csi_plugin.attachment.devices import attach, detach, extend
from csi_plugin.attachment.errors import AttachmentError

__all__ = ["AttachmentError", "attach", "connector_properties", "detach", "extend"]
