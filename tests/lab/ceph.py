"""A Ceph of one monitor, one manager and one OSD on the guest's disk, with a pool and a user for Cinder."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from tests.lab import data
from tests.lab.host import run
from tests.lab.storage import disk

POOL = "volumes"
USER = "cinder"
KEYRING = Path(f"/etc/ceph/ceph.client.{USER}.keyring")
_RIGHTS = dict.fromkeys(("osd", "mgr"), f"profile rbd pool={POOL}") | {"mon": "profile rbd"}
_ADMIN = "/etc/ceph/ceph.client.admin.keyring"
_FSID = "11111111-2222-3333-4444-555555555555"
_START_SECONDS = 300
ADDRESS = "192.0.2.16"
"""Of this machine, and not of its loopback network: pods have one of their own."""
_MONITOR = f"[v2:{ADDRESS}:3300,v1:{ADDRESS}:6789]"

# Small, patient, and without copies: one OSD on an emulated machine.
_CONFIGURATION = f"""\
[global]
fsid = {_FSID}
mon_host = {_MONITOR}
mon_initial_members = a
public_addr = {ADDRESS}
ms_bind_ipv6 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
osd_crush_chooseleaf_type = 0
osd_pool_default_pg_autoscale_mode = off
mon_max_pg_per_osd = 500
osd_memory_target = 939524096
bluestore_cache_autotune = false
bluestore_cache_size = 67108864
osd_op_num_shards = 1
osd_op_num_threads_per_shard = 2
mon_data_avail_crit = 1
mon_data_avail_warn = 2
mgr_initial_modules =
log_to_stderr = false
log_file = /var/log/ceph/$name.log
setuser_match_path = /nonexistent
osd_heartbeat_grace = 120
mon_osd_report_timeout = 900
mon_lease = 30
mon_lease_renew_interval_factor = 0.3
# The features that this kernel's client knows.
rbd_default_features = 1
"""


def start() -> None:
    """Start it, unless it runs; returns when the pool can be written to."""
    if KEYRING.exists():
        return
    folders = ("/etc/ceph", "/run/ceph", "/var/log/ceph")
    daemons = ("mon/ceph-a", "mgr/ceph-a", "osd/ceph-0")
    for folder in (*folders, *(f"/var/lib/ceph/{daemon}" for daemon in daemons)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("/etc/ceph/ceph.conf").write_text(_CONFIGURATION)
    run("ip", "address", "replace", f"{ADDRESS}/32", "dev", "lo")
    _start_monitor()
    _start_manager()
    _start_osd()
    run("ceph", "osd", "pool", "create", POOL, "8", "8", "replicated")
    run("ceph", "osd", "pool", "application", "enable", POOL, "rbd")
    rights = [word for kind, right in _RIGHTS.items() for word in (kind, right)]
    run("ceph", "auth", "get-or-create", f"client.{USER}", *rights, "--out-file", str(KEYRING))


def _start_monitor() -> None:
    keys, monitors = "/var/lib/ceph/mon/keys", "/var/lib/ceph/mon/monitors"
    everything = ("--cap", "osd", "allow *", "--cap", "mgr", "allow *")
    run("ceph-authtool", "--create-keyring", keys, "--gen-key", "--name", "mon.", "--cap", "mon", "allow *")
    run("ceph-authtool", "--create-keyring", _ADMIN, "--gen-key", "--name", "client.admin")
    run("ceph-authtool", _ADMIN, "--name", "client.admin", "--cap", "mon", "allow *", *everything)
    run("ceph-authtool", keys, "--import-keyring", _ADMIN)
    run("monmaptool", "--create", "--clobber", "--addv", "a", _MONITOR, "--fsid", _FSID, monitors)
    run("ceph-mon", "--mkfs", "--id", "a", "--monmap", monitors, "--keyring", keys)
    run("ceph-mon", "--id", "a")
    run("ceph", "config", "set", "mon", "auth_allow_insecure_global_id_reclaim", "false")


def _start_manager() -> None:
    keyring = "/var/lib/ceph/mgr/ceph-a/keyring"
    rights = ("mon", "allow profile mgr", "osd", "allow *", "mds", "allow *")
    run("ceph", "auth", "get-or-create", "mgr.a", *rights, "--out-file", keyring)
    run("ceph-mgr", "--id", "a")


def _start_osd() -> None:
    identity, folder = str(uuid4()), Path("/var/lib/ceph/osd/ceph-0")
    key = run("ceph-authtool", "--gen-print-key").strip()
    run("ceph", "osd", "new", identity, "--in-file", "-", stdin=json.dumps({"cephx_secret": key}))
    keyring = str(folder / "keyring")
    run("ceph-authtool", "--create-keyring", keyring, "--name", "osd.0", "--add-key", key)
    (folder / "block").symlink_to(disk("ceph"))
    run("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", identity, "--osd-objectstore", "bluestore")
    run("ceph-osd", "--id", "0")
    deadline = time.monotonic() + _START_SECONDS
    while json.loads(run("ceph", "osd", "stat", "--format", "json"))["num_up_osds"] != 1:
        assert time.monotonic() < deadline, "the OSD does not come up"
        time.sleep(1)


def images() -> list[str]:
    """Images of the pool, those in its trash too."""
    listed = json.loads(run("rbd", "ls", "--format", "json", POOL))
    trashed = json.loads(run("rbd", "trash", "ls", "--all", "--format", "json", POOL))
    return sorted([*listed, *(entry["name"] for entry in trashed)])


def make_image(name: str) -> str:
    """An image of 1 GiB with some data, whose checksum is returned."""
    run("rbd", "create", "--size", "1G", f"{POOL}/{name}")
    device = run("rbd", "map", f"{POOL}/{name}").strip()
    try:
        return data.write_block(Path(device))
    finally:
        run("rbd", "unmap", device)


def snapshots(image: str) -> list[str]:
    """Names of an image's snapshots."""
    return [found["name"] for found in json.loads(run("rbd", "snap", "ls", "--format", "json", f"{POOL}/{image}"))]


def protected_snapshot(image: str, name: str) -> None:
    run("rbd", "snap", "create", f"{POOL}/{image}@{name}")
    run("rbd", "snap", "protect", f"{POOL}/{image}@{name}")


def rotate_key() -> None:
    """Give Cinder's user another key, and tell its keyring, as an administrator does."""
    key = run("ceph-authtool", "--gen-print-key").strip()
    caps = "".join(f'\tcaps {kind} = "{right}"\n' for kind, right in _RIGHTS.items())
    KEYRING.write_text(f"[client.{USER}]\n\tkey = {key}\n{caps}")
    run("ceph", "auth", "import", "--in-file", str(KEYRING))


@contextlib.contextmanager
def quota(size: int) -> Iterator[None]:
    """The pool may have that many bytes."""
    run("ceph", "osd", "pool", "set-quota", POOL, "max_bytes", str(size))
    try:
        yield
    finally:
        run("ceph", "osd", "pool", "set-quota", POOL, "max_bytes", "0")


def limits(image: str) -> dict[str, str]:
    """QoS of an image that is its own: not the pool's, not a default."""
    options = json.loads(run("rbd", "config", "image", "ls", "--format", "json", f"{POOL}/{image}"))
    return {option["name"]: option["value"] for option in options if option["source"] == "image"}


def room() -> float:
    """GiB that can be provisioned in the pool, at the lab's twenty times its size."""
    (pool,) = [
        pool["stats"] for pool in json.loads(run("ceph", "df", "--format", "json"))["pools"] if pool["name"] == POOL
    ]
    provisioned = json.loads(run("rbd", "du", "--format", "json", "--pool", POOL)).get("total_provisioned_size", 0)
    return float(20 * (pool["max_avail"] + pool["stored"]) - provisioned) / 1024**3


def modules() -> Path:
    """A folder for Python's path with Ceph's bindings alone, out of all that Debian's packages bring."""
    folder = Path("/run/ceph-modules")
    folder.mkdir(exist_ok=True)
    for pattern in ("rados.*.so", "rbd.*.so"):
        for module in Path("/usr/lib/python3/dist-packages").glob(pattern):
            if not (folder / module.name).exists():
                (folder / module.name).symlink_to(module)
    return folder
