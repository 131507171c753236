"""What the node needs to know that is not in a request."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class NodeConfiguration:
    """Settings of the node; see the settings page for where they come from."""

    node_id: str
    state_dir: Path
    """For the node's key and a file per staged volume; local to this machine, and kept over reboots."""
    locks_dir: Path
    """For os-brick's lock files: one folder for everything on this machine that attaches volumes."""
    topology: dict[str, str] = field(default_factory=dict)
    max_volumes: int = 0
    default_filesystem: str = "ext4"
    oldest_kernel: str = "4.14"
    multipath: bool = False
    storage_network_ip: str | None = None
    root_helper: str = "sudo"
    local_folders: tuple[Path, ...] | None = None
    """Where volumes may be files of this host; None: anywhere but in the system's folders and the node's own."""
    storage_networks: tuple[str, ...] | None = None
    """Where all storage is; None: not said."""
    cluster_networks: tuple[str, ...] = ()
    """Of the cluster's services and pods, where no portal of storage is unless storage_networks says so."""
    reconnect_interval_seconds: float = 60
    """0: connections that are lost are not looked for."""
    trim_interval_hours: float = 0
    """0: filesystems are not trimmed."""

    @property
    def key_file(self) -> Path:
        return self.state_dir / "node.key"

    @property
    def temporary_dir(self) -> Path:
        """A folder for each attached volume's files, such as os-brick's ceph.conf of an image; outlives a container."""
        return self.state_dir / "temporary"

    @property
    def volumes_dir(self) -> Path:
        return self.state_dir / "volumes"
