"""What goes wrong with real storage: it is away and comes back, processes are killed, pools are full, and devices are
not what they seem. Data stays right, and nothing is left behind."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.lab import ceph, data, host, storage
from tests.lab.backends import FIRST_PATH, SECOND_PATH, LabBackend
from tests.lab.data import GIB, DirectWriter, read_block, read_file, size_of, write_block, write_file
from tests.lab.host import run
from tests.lab.servers import NODE, LabServer
from tests.lab.volumes import LabClaim, MakeClaim, is_created
from tests.support.claims import attachment_held
from tests.support.csi import fails, unless_busy
from tests.support.polling import wait_until

Code = grpc.StatusCode
Shows = Callable[[str], None]
PASSPHRASE = {"passphrase": "correct horse battery staple"}
SECONDS_AWAY = 20
"""Longer than initiators take to notice."""
BACK_SECONDS = 180


def test_storage_goes_away_and_comes_back(backend: LabBackend, claim: MakeClaim, shows: Shows) -> None:
    written_to, unstaged = claim("written-to", block=True), claim("unstaged", block=True)
    staged_again = claim("staged-again", block=True)
    device = written_to.use()
    then = write_block(unstaged.use())
    unstaged.unpublish()
    staged_again.publish_controller()

    with DirectWriter(device) as writer, ThreadPoolExecutor() as pool:
        writer.wait_for_more()
        with backend.outage():
            away_since = time.monotonic()
            calls = [pool.submit(unstaged.unstage), pool.submit(staged_again.stage)]
            wait_until(lambda: time.monotonic() - away_since > SECONDS_AWAY, lambda: "", timeout=60)
            written = writer.blocks
        writer.wait_for_more(BACK_SECONDS)
        for call in calls:
            ends(call)
    assert writer.blocks > written
    writer.check_what_is_on(device)

    staged_again.unstage()
    write_block(staged_again.use())
    unstaged.unstage()
    assert read_block(unstaged.use()) == then
    shows("storage away")


def ends(call: Future[None]) -> None:
    """A CSI call made while the storage was away may have failed, and has come to an end."""
    error = call.exception(BACK_SECONDS)
    assert error is None or isinstance(error, grpc.RpcError)
    assert error is None or error.code() in (Code.INTERNAL, Code.FAILED_PRECONDITION)


def test_paths_fail_and_return(backend: LabBackend, claim: MakeClaim) -> None:
    device = claim(block=True).use()

    def wait_for_paths(**states: str) -> None:
        wanted = {FIRST_PATH: states.get("first", "A"), SECOND_PATH: states.get("second", "A")}
        wait_until(lambda: host.paths_of(device) == wanted, lambda: host.paths_of(device), timeout=BACK_SECONDS)

    with DirectWriter(device) as writer:
        wait_for_paths()
        with host.cut_off(FIRST_PATH):
            wait_for_paths(first="F")
            writer.wait_for_more()
        wait_for_paths()
        with host.cut_off(SECOND_PATH):
            wait_for_paths(second="F")
            writer.wait_for_more()
        wait_for_paths()
        writer.wait_for_more()
    writer.check_what_is_on(device)


def test_lost_path_is_connected_again(server: LabServer, backend: LabBackend, claim: MakeClaim) -> None:
    """A session that was logged out is nobody's to restore but the node's."""
    server.start_node(CINDERBOX_RECONNECT_INTERVAL_SECONDS="2")
    device = claim(block=True).use()
    before = host.sessions().keys()
    with DirectWriter(device) as writer:
        host.log_out(SECOND_PATH)
        both = {FIRST_PATH: "A", SECOND_PATH: "A"}
        wait_until(lambda: host.paths_of(device) == both, lambda: host.paths_of(device), timeout=BACK_SECONDS)
        writer.wait_for_more()
    assert len(host.sessions().keys() - before) == 1
    writer.check_what_is_on(device)
    server.start_node()


def test_path_that_was_away_when_staged_joins(server: LabServer, backend: LabBackend, claim: MakeClaim) -> None:
    """iscsid gives up the login, and then no session is there that could come back."""
    server.start_node(CINDERBOX_RECONNECT_INTERVAL_SECONDS="2")
    volume = claim(block=True)
    volume.publish_controller()
    with host.cut_off(SECOND_PATH):
        device = volume.use()
        assert host.paths_of(device) == {FIRST_PATH: "A"}
    both = {FIRST_PATH: "A", SECOND_PATH: "A"}
    wait_until(lambda: host.paths_of(device) == both, lambda: host.paths_of(device), timeout=BACK_SECONDS)
    server.start_node()


def test_initiator_daemon_restarts(backend: LabBackend, claim: MakeClaim) -> None:
    device = claim("used", block=True).use()
    with DirectWriter(device) as writer:
        host.restart_initiator_daemon()
        writer.wait_for_more()
        other = claim("other", block=True)
        write_block(other.use())
        other.take_away()
        writer.wait_for_more()
    writer.check_what_is_on(device)


@pytest.mark.timeout(1800)  # initiators hold writes back for minutes before they fail
def test_node_that_is_cut_off_writes_no_more(backend: LabBackend, claim: MakeClaim, shows: Shows) -> None:
    """Its volume was taken from it without its doing, as with the taint of a node that is out of service."""
    volume = claim("claim", block=True)
    device = volume.use()
    with DirectWriter(device) as writer:
        writer.wait_for_more()
        volume.unpublish_controller()
        wait_until(lambda: bool(writer.errors), lambda: f"{writer.blocks} blocks", timeout=900)
    volume.take_away(controller=False)
    writer.errors.clear()
    writer.check_what_is_on(volume.use())
    shows("node cut off")


def test_node_is_killed(server: LabServer, backend: LabBackend, claim: MakeClaim, shows: Shows) -> None:
    volume = claim("claim", filesystem="ext4")
    volume.publish_controller()
    for point in ("stage.connected", "stage.formatted"):
        with killed_at(server, point):
            volume.stage()
    written = write_file(volume.use())
    volume.unpublish()
    for point in ("unstage.unmounted", "unstage.disconnected"):
        with killed_at(server, point):
            volume.unstage()
    volume.unstage()
    assert read_file(volume.use()) == written

    never_staged = claim("never-staged", block=True)
    never_staged.publish_controller()
    for point in ("stage.attached", "stage.connected"):
        with killed_at(server, point):
            never_staged.stage()
        never_staged.unstage()
    with killed_while_connecting(server, never_staged):
        never_staged.stage()
    never_staged.unstage()
    shows("node killed")


@contextmanager
def killed_at(server: LabServer, point: str) -> Iterator[None]:
    """In the block, the node dies when it comes to a point of the code; then it runs again."""
    server.start_node(CINDERBOX_FAILPOINT=point)
    with fails(Code.UNAVAILABLE):
        yield
    assert server.node_process.wait_for_exit() == -signal.SIGKILL
    server.start_node()


@contextmanager
def killed_while_connecting(server: LabServer, volume: LabClaim) -> Iterator[None]:
    """In the block, the node dies while a fork of its attachment process is about to connect the volume, which the
    fork then does; and the node runs again."""
    node = server.node_process.process
    assert node is not None
    locks = server.node_process.state / "locks"
    with ThreadPoolExecutor() as executor, attachment_held(locks, f"{NODE}/{volume.id}"):
        killer = executor.submit(kill_when_a_fork_waits, node)
        with fails(Code.UNAVAILABLE):
            yield
        killer.result()
    server.node_process.wait_for_exit()
    server.start_node()


def kill_when_a_fork_waits(node: subprocess.Popen[bytes]) -> None:
    def waiting() -> bool:
        children = run("pgrep", "--parent", str(node.pid), check=False).split()
        forks = run("pgrep", "--parent", ",".join(children), check=False).split() if children else []
        locks = Path("/proc/locks").read_text().splitlines()
        return any("->" in lock and fork in lock.split() for lock in locks for fork in forks)

    wait_until(waiting, lambda: Path("/proc/locks").read_text(), timeout=60)
    node.kill()


@pytest.mark.timeout(1800)
def test_controller_is_killed_and_the_target_has_forgotten_everything(
    server: LabServer, backend: LabBackend, claim: MakeClaim
) -> None:
    """As after a power cut of the host that serves the volumes: in use ones are exported again, and I/O goes on."""
    used, published = claim("used", block=True), claim("published", block=True)
    device = used.use()
    server.controller_process.kill()
    server.start_controller(CINDERBOX_FAILPOINT="publish.driver_done")
    with DirectWriter(device) as writer:
        with fails(Code.UNAVAILABLE):
            published.publish_controller()
        assert server.controller_process.wait_for_exit() == -signal.SIGKILL
        assert len(host.exports()["iSCSI targets"]) == 2
        run("targetctl", "clear")
        assert not any(host.exports().values())
        server.start_controller()
        wait_until(lambda: len(host.exports()["iSCSI targets"]) == 2, host.exports, timeout=BACK_SECONDS)
        writer.wait_for_more(BACK_SECONDS)
    writer.check_what_is_on(device)
    # The controller looks at once after what was interrupted.
    wait_until(lambda: unless_busy(published.publish_controller), server.controller_process.log_text, timeout=60)
    write_block(published.use())


def test_stale_device_of_a_number_that_another_volume_has_now(backend: LabBackend, claim: MakeClaim) -> None:
    """The unit of a target becomes another volume while the node still has a device of it."""
    old, new = claim("old", block=True), claim("new", block=True, gib=2)
    of_old, of_new = write_block(old.use()), write_block(new.use())
    old.take_away(controller=False)
    new.take_away(controller=False)
    storage.point_unit_at(f"volume-{new.id}", f"volume-{old.id}")
    stale = host.iscsi_device(*storage.portal_and_target(f"volume-{new.id}"))
    assert read_block(stale) == of_old
    storage.point_unit_at(f"volume-{new.id}", f"volume-{new.id}")

    device = new.use()

    assert size_of(device) == 2 * GIB
    assert read_block(device) == of_new
    new.take_away(controller=False)
    assert read_block(old.use()) == of_old


def test_what_the_host_has_built_on_a_volume(backend: LabBackend, claim: MakeClaim) -> None:
    """As udev activates a volume group that a pod has made inside of its raw volume."""
    volume = claim(block=True)
    device = volume.use()
    number = (host.in_sysfs(device) / "dev").read_text().strip()
    run("dmsetup", "create", "inside", "--uuid", "LVM-inside", "--table", f"0 2048 linear {number} 0")
    volume.unpublish()
    with Path("/dev/mapper/inside").open("rb"), fails(Code.FAILED_PRECONDITION, "inside (open)"):
        volume.unstage()
    volume.unstage()
    assert not Path("/dev/mapper/inside").exists()


def test_unreadable_luks_header_is_never_formatted(backend: LabBackend, claim: MakeClaim) -> None:
    volume = claim(filesystem="ext4", encryption="luks2")
    written = write_file(volume.use(secrets=PASSPHRASE))
    volume.take_away(controller=False)
    with storage.failing_reads(backend.name, f"volume-{volume.id}"), fails(Code.FAILED_PRECONDITION):
        volume.stage(secrets=PASSPHRASE)
    assert read_file(volume.use(secrets=PASSPHRASE)) == written


def test_full_group(backend: LabBackend, claim: MakeClaim) -> None:
    """It has one size or another: a test may have given it a second disk."""
    volumes = [claim("first", block=True)]
    with fails(Code.RESOURCE_EXHAUSTED, "small"):
        volumes += (claim(f"more-{number}", block=True) for number in range(4))
    volumes[0].remove()
    wait_until(lambda: is_created(claim), lambda: "no room though there is", timeout=120)


def test_full_thin_pool(backend: LabBackend, claim: MakeClaim) -> None:
    """A pod that has written more than there is waits, and goes on as soon as there is more."""
    device = claim("written-to", block=True).use()
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(data.write_pattern, device, storage.FULL_MIB)
        wait_until(lambda: storage.thin_pool_is_full("pool"), lambda: "not full", timeout=BACK_SECONDS)
        with fails(Code.RESOURCE_EXHAUSTED, "pool"):
            claim("too-much", block=True)
        storage.grow("pool")
        storage.grow_thin_pool("pool")
        writing.result(BACK_SECONDS)
    data.check_pattern(device, storage.FULL_MIB)
    wait_until(lambda: is_created(claim), lambda: "no room though there is", timeout=120)


def test_quota_of_pool(server: LabServer, backend: LabBackend, claim: MakeClaim) -> None:
    wait_until(lambda: is_created(claim, "fits"), lambda: "no room in a new pool", timeout=120)
    with ceph.quota(1):
        wait_until(lambda: server.room(backend) < 1, lambda: "the quota is not seen", timeout=120)
        with fails(Code.RESOURCE_EXHAUSTED, "rbd"):
            claim("too-much", block=True)
    wait_until(lambda: is_created(claim, "fits-again"), lambda: "no room though there is", timeout=120)


def test_what_looks_like_qcow2_is_data(backend: LabBackend, claim: MakeClaim, tmp_path: Path) -> None:
    """A pod may write whatever it likes to its volume, such as the header of an image on top of one of our files."""
    image = tmp_path / "image"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/hostname", "-F", "raw", str(image), "1G")
    header = image.read_bytes()[:65536]
    volume = claim("volume", block=True)
    with volume.use().open("r+b") as written:
        written.write(header)
    volume.take_away()
    with volume.use().open("rb") as read:
        assert read.read(len(header)) == header
