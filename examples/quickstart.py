"""Cinderbox's main job on one machine, step by step, as a Container Orchestrator would ask for it.

Starts ``cinderbox serve`` in mode all with the embedded loop driver and SQLite, then speaks CSI to it over its unix
socket: create, publish, stage, mount, write, snapshot, restore, clone, expand, read back, delete. Exits with an error
when any data differs or anything is left behind. Needs root, for loop devices and mounts.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc

from csi_plugin.protocol import csi_pb2, csi_pb2_grpc

GIB = 1024**3
MOUNT = csi_pb2.VolumeCapability(
    mount=csi_pb2.VolumeCapability.MountVolume(fs_type="xfs"),
    access_mode=csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER),
)


class Cluster:
    """The part that Kubernetes plays: remembers paths and calls the RPCs in the order the CSI spec asks for."""

    def __init__(self, address: str, workdir: Path) -> None:
        channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(channel).result(timeout=30)
        self.identity = csi_pb2_grpc.IdentityStub(channel)
        self.controller = csi_pb2_grpc.ControllerStub(channel)
        self.node = csi_pb2_grpc.NodeStub(channel)
        self.workdir = workdir

    def wait_until_ready(self) -> None:
        """Wait (30 s at most) until Probe says that the backend is up: the socket opens before that."""
        deadline = csi_pb2.ProbeRequest()
        for _ in range(300):
            if self.identity.Probe(deadline, timeout=30).ready.value:
                self.node_id = self.node.NodeGetInfo(csi_pb2.NodeGetInfoRequest()).node_id
                return
            subprocess.run(["sleep", "0.1"], check=True)
        raise SystemExit("the plugin did not become ready within 30 s")

    def create(self, name: str, gib: int, source: csi_pb2.VolumeContentSource | None = None) -> csi_pb2.Volume:
        request = csi_pb2.CreateVolumeRequest(
            name=name,
            capacity_range=csi_pb2.CapacityRange(required_bytes=gib * GIB),
            volume_capabilities=[MOUNT],
            volume_content_source=source,
        )
        return self.controller.CreateVolume(request).volume

    def mount(self, volume: csi_pb2.Volume) -> Path:
        """Publish, stage and publish on the node; returns the folder in which a pod would see the volume."""
        context = self.controller.ControllerPublishVolume(
            csi_pb2.ControllerPublishVolumeRequest(
                volume_id=volume.volume_id,
                node_id=self.node_id,
                volume_capability=MOUNT,
                volume_context=volume.volume_context,
            )
        ).publish_context
        staging = self.workdir / "staging" / volume.volume_id
        staging.mkdir(parents=True)
        target = self.workdir / "pods" / volume.volume_id
        target.parent.mkdir(exist_ok=True)
        self.node.NodeStageVolume(
            csi_pb2.NodeStageVolumeRequest(
                volume_id=volume.volume_id,
                publish_context=context,
                staging_target_path=str(staging),
                volume_capability=MOUNT,
                volume_context=volume.volume_context,
            )
        )
        self.node.NodePublishVolume(
            csi_pb2.NodePublishVolumeRequest(
                volume_id=volume.volume_id,
                publish_context=context,
                staging_target_path=str(staging),
                target_path=str(target),
                volume_capability=MOUNT,
                volume_context=volume.volume_context,
            )
        )
        return target

    def unmount(self, volume: csi_pb2.Volume) -> None:
        staging = self.workdir / "staging" / volume.volume_id
        target = self.workdir / "pods" / volume.volume_id
        self.node.NodeUnpublishVolume(
            csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume.volume_id, target_path=str(target))
        )
        self.node.NodeUnstageVolume(
            csi_pb2.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=str(staging))
        )
        staging.rmdir()
        self.controller.ControllerUnpublishVolume(
            csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume.volume_id, node_id=self.node_id)
        )

    def snapshot(self, name: str, volume: csi_pb2.Volume) -> csi_pb2.Snapshot:
        return self.controller.CreateSnapshot(
            csi_pb2.CreateSnapshotRequest(name=name, source_volume_id=volume.volume_id)
        ).snapshot

    def expand(self, volume: csi_pb2.Volume, gib: int) -> None:
        capacity = csi_pb2.CapacityRange(required_bytes=gib * GIB)
        self.controller.ControllerExpandVolume(
            csi_pb2.ControllerExpandVolumeRequest(
                volume_id=volume.volume_id, capacity_range=capacity, volume_capability=MOUNT
            )
        )
        self.node.NodeExpandVolume(
            csi_pb2.NodeExpandVolumeRequest(
                volume_id=volume.volume_id,
                volume_path=str(self.workdir / "pods" / volume.volume_id),
                staging_target_path=str(self.workdir / "staging" / volume.volume_id),
                capacity_range=capacity,
            )
        )

    def delete(self, volume: csi_pb2.Volume) -> None:
        self.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id))


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "data").read_bytes()).hexdigest()


def check(what: str, *, expected: object, found: object) -> None:
    if expected != found:
        raise SystemExit(f"{what}: expected {expected}, found {found}")
    print(f"    checked: {what}")


def size_gib(folder: Path) -> float:
    filesystem = os.statvfs(folder)
    return filesystem.f_blocks * filesystem.f_frsize / GIB


def main_job(cluster: Cluster, volumes: Path) -> None:
    """Walk through a volume's life and check the data at every turn."""
    print("==> create a volume of 1 GiB, publish, stage and mount it")
    first = cluster.create("pvc-first", 1)
    pod = cluster.mount(first)
    print(subprocess.run(["findmnt", "--noheadings", str(pod)], check=True, capture_output=True, text=True).stdout)

    print("==> write 64 MiB of data")
    with (pod / "data").open("wb") as file:
        file.write(os.urandom(64 * 1024**2))
        file.flush()
        os.fsync(file.fileno())
    written = digest(pod)
    subprocess.run(["sync", "--file-system", str(pod)], check=True)

    print("==> take a snapshot, then overwrite the data")
    snapshot = cluster.snapshot("snapshot-of-first", first)
    (pod / "data").write_bytes(b"overwritten after the snapshot")

    print("==> restore the snapshot into a volume of 2 GiB")
    source = csi_pb2.VolumeContentSource(
        snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=snapshot.snapshot_id)
    )
    restored = cluster.create("pvc-restored", 2, source)
    restored_pod = cluster.mount(restored)
    check("the restored volume holds the data as it was", expected=written, found=digest(restored_pod))
    check("its filesystem was grown to 2 GiB", expected=True, found=size_gib(restored_pod) > 1.8)

    print("==> clone the restored volume")
    source = csi_pb2.VolumeContentSource(volume=csi_pb2.VolumeContentSource.VolumeSource(volume_id=restored.volume_id))
    clone = cluster.create("pvc-clone", 2, source)
    clone_pod = cluster.mount(clone)
    check("the clone holds the same data", expected=written, found=digest(clone_pod))

    print("==> expand the clone to 3 GiB while it is mounted")
    cluster.expand(clone, 3)
    check("its filesystem grew online", expected=True, found=size_gib(clone_pod) > 2.8)
    check("and the data is still the same", expected=written, found=digest(clone_pod))

    listed = cluster.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    check("ListVolumes shows 3 volumes", expected=3, found=len(listed))

    print("==> unmount and delete everything")
    for volume in (first, restored, clone):
        cluster.unmount(volume)
    cluster.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot.snapshot_id))
    for volume in (first, restored, clone):
        cluster.delete(volume)
    listed = cluster.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    check("no volume is listed", expected=0, found=len(listed))
    left = sorted(path.name for path in volumes.iterdir() if not path.name.startswith("."))
    check("no file is left on the backend", expected=[], found=left)
    loops = subprocess.run(["losetup", "--list"], check=True, capture_output=True, text=True).stdout
    check("no loop device is left", expected=False, found=str(volumes) in loops)


def main() -> None:
    if os.geteuid() != 0:
        raise SystemExit("run this as root: it makes loop devices and mounts")
    with tempfile.TemporaryDirectory(prefix="cinderbox-quickstart-", ignore_cleanup_errors=True) as folder:
        workdir = Path(folder)
        volumes = workdir / "volumes"
        settings = {
            "CSI_ENDPOINT": f"unix://{workdir}/csi.sock",
            "CSI_MODE": "all",
            "X_CSI_PERSISTENCE_CONFIG": f'{{"storage": "db", "connection": "sqlite:///{workdir}/metadata.sqlite"}}',
            "X_CSI_BACKEND_CONFIG": (
                '{"name": "loop", "driver": "csi_plugin.storage.drivers.loop.LoopDriver", '
                f'"loop_volumes_dir": "{volumes}"}}'
            ),
            "CINDERBOX_STATE_DIR": f"{workdir}/state",
        }
        with (workdir / "log").open("wb") as log:
            serve = [sys.executable, "-m", "csi_plugin.cli", "serve"]
            server = subprocess.Popen(serve, env=os.environ | settings, stdout=log, stderr=log)
        try:
            cluster = Cluster(f"unix://{workdir}/csi.sock", workdir)
            cluster.wait_until_ready()
            main_job(cluster, volumes)
        except BaseException:
            print((workdir / "log").read_text(errors="replace")[-5000:], file=sys.stderr)
            raise
        finally:
            server.terminate()
            server.wait(timeout=60)
    print("\nDone: data written, snapshotted, restored, cloned, expanded, read back, everything deleted.")


if __name__ == "__main__":
    main()
