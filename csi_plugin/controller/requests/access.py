"""Which ways of use a volume's capabilities ask for, and which of them can be had."""

from collections.abc import Iterable

from csi_plugin.controller.configuration import ControllerConfiguration
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.errors import invalid_argument

AccessMode = csi_pb2.VolumeCapability.AccessMode

MULTI_NODE = frozenset(
    {AccessMode.MULTI_NODE_READER_ONLY, AccessMode.MULTI_NODE_SINGLE_WRITER, AccessMode.MULTI_NODE_MULTI_WRITER}
)
READER_ONLY = frozenset({AccessMode.SINGLE_NODE_READER_ONLY, AccessMode.MULTI_NODE_READER_ONLY})


ACCESS_KEY = "csi_access"
"""Entry of a connection's connector that says how the volume was published; drivers ignore what they don't know."""


def check_access(
    capabilities: Iterable[csi_pb2.VolumeCapability], configuration: ControllerConfiguration, *, field: str
) -> None:
    """Refuse, with INVALID_ARGUMENT, combinations that no Cinder driver can give safely.

    A filesystem such as ext4 that two nodes write to at once is destroyed, so writing from several nodes is for raw
    block volumes; reading from several is fine.
    """
    for capability in capabilities:
        mode = capability.access_mode.mode
        name = AccessMode.Mode.Name(mode)
        if mode not in MULTI_NODE or mode in READER_ONLY:
            continue
        if capability.HasField("mount"):
            raise invalid_argument(
                f"{field}: {name} needs access type block; a filesystem may be written to by one node at a time "
                "(MULTI_NODE_READER_ONLY is allowed)"
            )
        if "block_rwx" in configuration.disabled_features:
            raise invalid_argument(f"{field}: {name} is disabled here (disabled_features: block_rwx)")


def needs_multiattach(capabilities: Iterable[csi_pb2.VolumeCapability]) -> bool:
    """Whether the volume may get connected to several nodes at once."""
    return any(capability.access_mode.mode in MULTI_NODE for capability in capabilities)


def attach_mode(capability: csi_pb2.VolumeCapability, *, readonly: bool) -> str:
    """Cinder's attach_mode: ``ro`` or ``rw``."""
    return "ro" if readonly or capability.access_mode.mode in READER_ONLY else "rw"


def describe(capability: csi_pb2.VolumeCapability) -> str:
    """How a publication is remembered: access type and mode, ``mount/SINGLE_NODE_WRITER``."""
    return f"{capability.WhichOneof('access_type')}/{AccessMode.Mode.Name(capability.access_mode.mode)}"
