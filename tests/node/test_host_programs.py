"""The host's storage clients in place of the image's. What enters the host is a test's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from csi_plugin.attachment.programs import run
from csi_plugin.node import host_programs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of the image and of the host, which answer with their version."""

    def program(path: Path, script: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    program(tmp_path / "image/iscsiadm", 'echo "iscsiadm version 2.1.10 $*"')
    program(tmp_path / "host/iscsiadm", 'echo "iscsiadm version 2.1.11 $*"')
    program(tmp_path / "image/nsenter", f'while [ "$1" != -- ]; do shift; done; shift; PATH={tmp_path}/host:$PATH "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}/image:{os.environ['PATH']}")
    return tmp_path / "programs"


def test_the_hosts_programs_are_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    host_programs.use(["iscsiadm"], folder=folder)
    assert run("iscsiadm", "-m", "session s").split(maxsplit=2)[2] == "2.1.11 -m session s\n"
    assert "the host's is used (2.1.11; the image's is 2.1.10)" in caplog.text


@pytest.mark.parametrize("seen", ["processes", "daemon", "nothing"])
def test_versions_that_differ_are_said(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    """Also where no process of the host is seen: the chart shows where its iscsid is."""
    caplog.set_level("INFO")
    monkeypatch.setattr(host_programs, "_sees_the_host", lambda: seen == "processes")
    monkeypatch.setattr(host_programs, "_HOST_FOLDER", folder.parent / "host-sbin")
    if seen == "daemon":
        (folder.parent / "host-sbin").mkdir()
        (folder.parent / "host-sbin/iscsid").write_bytes(b"\x7fELF\x00# BEGIN RECORD 2.1.11\x000.0.0.0\x00")
    host_programs.use([], folder=folder)
    assert "2.1.10" in run("iscsiadm")
    if seen == "nothing":
        assert "the image's is 2.1.10, the host's not known (no " in caplog.text
    else:
        assert "the image's is 2.1.10, and the host's is 2.1.11" in caplog.text


BARE = {"usr/sbin/lvm": "", "usr/sbin/mdadm": "", "usr/sbin/multipathd": ""}
GOOD = {
    "etc/lvm/lvm.conf": 'devices {\n global_filter = [ "a|^/dev/disk/by-id/own.*|", "r|.*|" ]\n}\n',
    "etc/mdadm/mdadm.conf": "AUTO -all\n",
    "etc/multipath.conf": "defaults {\n find_multipaths yes\n skip_kpartx yes\n no_path_retry 12 # 1 minute\n}\n",
    "etc/iscsi/iscsid.conf": "node.startup = manual\n",
}
BAD = {
    "etc/lvm/lvm.conf": 'devices {\n # global_filter = [ "r|.*|" ]\n use_devicesfile = 0\n}\n',
    "etc/lvm/devices/system.devices": "",
    "etc/multipath.conf": 'defaults {\n find_multipaths no\n features "1 queue_if_no_path"\n no_path_retry 5\n}\n',
    "etc/iscsi/iscsid.conf": "# node.startup = manual\nnode.startup = automatic\n",
}


@pytest.mark.parametrize(
    ("files", "lacking"),
    [
        ({}, ["multipathd: not installed"]),
        (BARE | GOOD, []),
        (
            BARE | BAD,
            [
                "/etc/lvm/lvm.conf: .* global_filter",
                "find_multipaths yes",
                "skip_kpartx yes",
                "no queue_if_no_path",
                "AUTO -all",
                "node.startup = manual",
            ],
        ),
        (BARE | GOOD | {"etc/lvm/lvm.conf": "", "etc/lvm/devices/system.devices": "IDTYPE=sys_wwid"}, []),
    ],
)
def test_doctor_says_what_a_host_lacks(tmp_path: Path, files: dict[str, str], lacking: list[str]) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {
        **os.environ,
        "CINDERBOX_REQUEST_MULTIPATH": "true",
        "CINDERBOX_MODE": "node",
        "CINDERBOX_REGISTRY_ENDPOINT": "unix:///nowhere",
    }
    command = [sys.executable, "-m", "csi_plugin.cli", "doctor", "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    *said, versions = [line for line in done.stdout.splitlines() if line != "nothing is lacking"]
    assert len(said) == len(lacking), done.stdout + done.stderr
    for line, pattern in zip(said, lacking, strict=True):
        assert re.search(pattern, line)
    assert "iscsiadm" in versions
    assert done.returncode == (1 if lacking else 0)
