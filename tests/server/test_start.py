"""Starts on hosts as they are: without PATH or HOME, with a root that cannot be written to, under other names, and as
the shipped systemd unit has it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.persistence.testing import new_id
from csi_plugin.protocol import csi_pb2
from csi_plugin.server.installation import settle_driver_name
from csi_plugin.server.serve import EXIT_SETTINGS
from csi_plugin.server.settings import SettingsError
from tests.support.claims import Claim
from tests.support.csi import GIB
from tests.support.mount_namespaces import private_mounts
from tests.support.project import PROJECT
from tests.support.serving import Served, serving

pytestmark = pytest.mark.root

MEMORY = {"storage": "memory"}
UNIT = PROJECT / "deploy/systemd/cinderbox.service"


def shell(script: str, *arguments: str) -> tuple[str, ...]:
    """A command that runs a script, and becomes the command that is appended to it."""
    return ("sh", "-c", f'set -e; {script}; exec "$@"', "sh", *arguments)


def live(served: Served, folder: Path) -> Claim:
    """A volume's life, by calls alone: this process need not see the server's mounts."""
    claim = Claim(served, folder / "claim", name="claim", filesystem="xfs")
    pod = claim.use()
    usage = claim.stats(pod)[csi_pb2.VolumeUsage.BYTES]
    assert 0.8 * GIB < usage.total < GIB
    claim.unpublish()
    assert claim.expand(2, claim.staging) == 2 * GIB
    claim.unstage()
    return claim


def test_without_path_and_home(tmp_path: Path) -> None:
    without = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "XDG_STATE_HOME", "PWD")
    prefix = ("env", *(word for name in without for word in ("-u", name)))
    with serving(tmp_path, persistence=MEMORY, prefix=prefix) as served:
        live(served, tmp_path).remove()


def test_with_a_root_that_is_read_only(tmp_path: Path) -> None:
    """As a container's readOnlyRootFilesystem: what can be written to is the state, the socket's folder and volumes."""
    served = Served(tmp_path, persistence=MEMORY)
    writable = (str(tmp_path), str(served.socket.parent))
    binds = "; ".join(f"mount --bind {path} {path}" for path in writable)
    served.prefix = (
        *private_mounts(),
        *shell(f"{binds}; mount -o remount,bind,ro /; ! touch /tmp/x 2>/dev/null"),
    )
    try:
        served.start()
        live(served, tmp_path).remove()
        assert served.stop() == 0
    finally:
        served.close()


def test_as_the_unit_has_it(tmp_path: Path) -> None:
    """In its environment, folder and umask; what systemd's other options forbid, no test asks for."""
    unit = dict(re.findall(r"^(\w+)=(.*)$", UNIT.read_text(), re.MULTILINE))
    path = unit["Environment"].removeprefix("PATH=").replace("/opt/cinderbox", str(PROJECT / ".venv"))
    prefix = shell(f"umask {unit['UMask']}; cd /")
    with serving(tmp_path, persistence=MEMORY, prefix=prefix, environment={"PATH": path}) as served:
        claim = Claim(served, tmp_path / "claim", name="claim")
        pod = claim.use()
        assert pod.stat().st_mode & 0o777 == 0o755, "pods of other users cannot enter it"
        assert served.socket.stat().st_mode & 0o777 == 0o600
        claim.unpublish()
        claim.remove()
        assert served.stop() == 0


def test_the_unit_is_one(tmp_path: Path) -> None:
    text = UNIT.read_text()
    assert (
        re.findall(r"^(Protect|Private|ReadWrite|ReadOnly|Inaccessible|TemporaryFile|Bind|Root)\w*=", text, re.M) == []
    )
    if analyze := shutil.which("systemd-analyze"):
        copy = tmp_path / UNIT.name
        copy.write_text(text.replace("/opt/cinderbox/bin/cinderbox", "/bin/true"))
        done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
        assert [line for line in done.stderr.splitlines() if UNIT.name in line] == []


def test_under_two_names(tmp_path: Path) -> None:
    """A controller that starts on another host serves what the first one has made, and one of another name does not."""
    names = ("storage-1", f"{'long-' * 9}name.example.org")
    first, second = (Served(tmp_path, prefix=("unshare", "--uts", *shell(f"hostname {name}"))) for name in names)
    try:
        first.start()
        claim = Claim(first, tmp_path / "claim", name="claim")
        claim.use()
        claim.unpublish()
        assert first.stop() == 0
        first.start(wait=False, CINDERBOX_DRIVER_NAME="other.example")
        assert first.wait_for_exit() == EXIT_SETTINGS
        assert "driver_name: the volumes that this node has staged" in first.log_text()
        first.start()
        claim.unstage()
        assert first.stop() == 0
        first.start(wait=False, CINDERBOX_DRIVER_NAME="other.example")
        assert first.wait_for_exit() == EXIT_SETTINGS
        assert (
            "driver_name: the volumes and snapshots in this metadata store are those of csi.cinder" in first.log_text()
        )

        claim.served = second.start()
        claim.expand_controller(2)
        claim.use()
        claim.unpublish()
        claim.remove()
        assert second.records() == []
    finally:
        first.close()
        second.close()


def test_the_name_of_the_driver_may_change_while_nothing_is_recorded() -> None:
    store = MemoryPersistence()
    for name in ("one.example", "two.example"):
        settle_driver_name(store, name)
    volume = store.create(VolumeRecord(id=new_id()))
    with pytest.raises(SettingsError, match=r"those of two\.example"):
        settle_driver_name(store, "one.example")
    settle_driver_name(store, "two.example")
    store.delete(volume)
    settle_driver_name(store, "one.example")
