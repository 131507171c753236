"""A host whose kernel and programs are ones of a test: storage that this machine cannot have.

Code runs in a process with a mount namespace of its own, where /sys and /dev are folders of the test, and finds
programs that write down how they are called. Devices that are opened are loop devices under another name. Its pauses
are cut short.
"""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.mount_namespaces import private_mounts

_ENTER = 'mount --rbind "$1/sys" /sys && mount --rbind "$1/dev" /dev && shift && exec "$@"'
_RUNNER = """
import importlib, json, logging, sys, time
wait = time.sleep
time.sleep = lambda seconds: wait(min(seconds, 0.02))
logging.basicConfig(level=logging.WARNING)
module, _, name = sys.argv[1].partition(":")
asked = json.load(sys.stdin)
try:
    said = {"result": getattr(importlib.import_module(module), name)(*asked["args"], **asked["kwargs"])}
except Exception as error:
    said = {"error": str(error), "kind": type(error).__name__}
print("\\n" + json.dumps(said))
sys.stdout.flush()
import os
os._exit(0)
"""
_NODES = ("null", "zero", "full", "random", "urandom")
WWID = "naa.6001405aaaa"


class FakeHost:
    """``programs`` log to ``calls``; ``session``, ``map`` and the like fill /sys and /dev."""

    def __init__(self, folder: Path, *, kernel: bool = True) -> None:
        """``kernel``: whether it has a kernel of its own, and not this machine's with its mounts and devices."""
        self._kernel = kernel
        self.folder = folder
        self.sys, self.dev, self._bin = folder / "sys", folder / "dev", folder / "bin"
        for path in (self.sys / "dev/block", self.sys / "block", self.sys / "class", self.dev, self._bin):
            path.mkdir(parents=True)
        for name in _NODES:
            status = Path("/dev", name).stat()
            os.mknod(self.dev / name, 0o666 | stat.S_IFCHR, status.st_rdev)
            (self.dev / name).chmod(0o666)
        (self.dev / "fd").symlink_to("/proc/self/fd")
        (self.dev / "shm").mkdir()
        self._minors = 0

    def program(self, name: str, script: str = "") -> None:
        """A program of the host: it writes its arguments down, then runs the shell's ``script``."""
        path = self._bin / name
        path.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{self.folder}/calls\nSYS={self.sys}; DEV={self.dev}\n{script}\n'
        )
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """What programs were called with, one line for each call."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def called(self, pattern: str) -> list[str]:
        return [call for call in self.calls if re.search(pattern, call)]

    def run(self, function: str, *args: Any, **kwargs: Any) -> Any:
        """What a function ("module:name") returns on this host. Raises HostError with what it raised, and said."""
        done = self.start(function, *args, **kwargs)
        lines = done.stdout.splitlines()
        said = json.loads(lines[-1]) if lines else {"error": "no answer", "kind": "Killed"}
        self.said = done.stderr
        if "error" in said:
            raise HostError(said["kind"], said["error"], done.stderr)
        return said["result"]

    def start(self, function: str, *args: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "OSLO_LOCK_PATH": str(self.folder / "locks"),
            "TMPDIR": str(self.folder),
        }
        enter: tuple[str, ...] = ()
        if self._kernel:
            enter = (*private_mounts(self.folder), "sh", "-c", _ENTER, "sh", str(self.folder))
        return subprocess.run(
            [*enter, sys.executable, "-W", "ignore", "-c", _RUNNER, function],
            input=json.dumps({"args": args, "kwargs": kwargs}),
            capture_output=True,
            text=True,
            env=environment,
            timeout=100,
            check=False,
        )

    # The kernel's tables

    def write(self, path: str, text: str = "") -> Path:
        """A file below /sys."""
        file = self.sys / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
        return file

    def link(self, path: str, to: str) -> None:
        """A link below /sys to another path below it."""
        file = self.sys / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_symlink():
            file.symlink_to(os.path.relpath(self.sys / to, file.parent))

    def block_device(self, name: str, at: str, *, shows: str = "") -> None:
        """A block device whose folder is below /sys; ``shows``: the device under whose number it can be opened."""
        number = Path(shows).stat().st_rdev if shows else os.makedev(259, 1000 + self._minors)
        self._minors += 1
        text = f"{os.major(number)}:{os.minor(number)}"
        self.write(f"{at}/dev", text)
        for folder in ("holders", "slaves"):
            (self.sys / at / folder).mkdir()
        self.link(f"dev/block/{text}", at)
        self.link(f"block/{name}", at)
        self.link(f"class/block/{name}", at)
        os.mknod(self.dev / name, 0o600 | stat.S_IFBLK, number)

    def session(
        self,
        number: int,
        iqn: str,
        portal: str,
        units: dict[int, str] | None = None,
        *,
        wwid: str = WWID,
        shows: str = "",
    ) -> None:
        """An iSCSI session, with the disks that it shows, by unit."""
        host = f"devices/platform/host{number}"
        session = f"{host}/session{number}"
        self.write(f"{session}/iscsi_session/session{number}/targetname", iqn)
        self.write(f"{session}/iscsi_session/session{number}/state", "LOGGED_IN")
        self.link(f"{session}/iscsi_session/session{number}/device", session)
        self.link(f"class/iscsi_session/session{number}", f"{session}/iscsi_session/session{number}")
        address, _, port = portal.rpartition(":")
        connection = f"{session}/connection{number}:0/iscsi_connection/connection{number}:0"
        for name, text in (("persistent_address", address.strip("[]")), ("persistent_port", port)):
            self.write(f"{connection}/{name}", text)
        self.link(f"class/iscsi_connection/connection{number}:0", connection)
        for kind in ("scsi_host", "iscsi_host"):
            self.link(f"class/{kind}/host{number}/device", host)
        self.write(f"class/scsi_host/host{number}/scan")
        for unit, name in (units or {}).items():
            self.disk(name, f"{session}/target{number}:0:0/{number}:0:0:{unit}", wwid=wwid, shows=shows)

    def disk(self, name: str, scsi: str, *, wwid: str = WWID, shows: str = "") -> None:
        self.write(f"{scsi}/wwid", wwid)
        for name_of_file in ("rescan", "delete"):
            self.write(f"{scsi}/{name_of_file}")
        self.write(f"{scsi}/state", "running")
        self.block_device(name, f"{scsi}/block/{name}", shows=shows)
        self.link(f"{scsi}/block/{name}/device", scsi)

    def nvme_controller(self, number: int, portal: str, *, subsystem: str) -> str:
        """A live controller of an NVMe subsystem, over TCP; its folder below /sys."""
        address, _, port = portal.rpartition(":")
        folder = f"devices/virtual/nvme-fabrics/ctl/nvme{number}"
        for name, text in {
            "transport": "tcp",
            "state": "live",
            "subsysnqn": subsystem,
            "address": f"traddr={address},trsvcid={port},src_addr=127.0.0.1",
        }.items():
            self.write(f"{folder}/{name}", text)
        self.link(f"class/nvme/nvme{number}", folder)
        return folder

    def map(self, name: str, uuid: str, paths: list[str], *, shows: str = "", dm_name: str = "") -> None:
        """A device-mapper device over others."""
        at = f"devices/virtual/block/{name}"
        self.write(f"{at}/dm/uuid", uuid)
        self.write(f"{at}/dm/name", dm_name or uuid.partition("-")[2])
        self._built_on(name, at, paths, shows=shows)

    def array(self, name: str, paths: list[str], *, shows: str = "") -> None:
        """An md array over others."""
        at = f"devices/virtual/block/{name}"
        self.write(f"{at}/md/array_state", "clean")
        self._built_on(name, at, paths, shows=shows)

    def _built_on(self, name: str, at: str, paths: list[str], *, shows: str) -> None:
        self.block_device(name, at, shows=shows)
        for path in paths:
            below = str((self.sys / "block" / path).resolve().relative_to(self.sys))
            self.link(f"{at}/slaves/{path}", below)
            self.link(f"{below}/holders/{name}", at)


class HostError(Exception):
    """What a function raised on the fake host."""

    def __init__(self, kind: str, message: str, said: str) -> None:
        super().__init__(f"{kind}: {message}\n{said[-3000:]}")
        self.kind = kind
