"""The library's objects under one name, as cinderlib had them."""

from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder.runtime import CONTEXT, DEFAULT_PROJECT_ID, DEFAULT_USER_ID
from csi_plugin.storage.connection import Connection
from csi_plugin.storage.group import Group
from csi_plugin.storage.group_snapshot import GroupSnapshot
from csi_plugin.storage.key_value import KeyValue
from csi_plugin.storage.resource import NamedResource as NamedObject
from csi_plugin.storage.resource import Resource as Object
from csi_plugin.storage.snapshot import Snapshot
from csi_plugin.storage.volume import Volume

__all__ = [
    "CONTEXT",
    "DEFAULT_PROJECT_ID",
    "DEFAULT_USER_ID",
    "Backend",
    "Connection",
    "Group",
    "GroupSnapshot",
    "KeyValue",
    "NamedObject",
    "Object",
    "Snapshot",
    "Volume",
]
