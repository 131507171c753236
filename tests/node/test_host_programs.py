"""The host's storage clients in place of the image's. What enters the host is a test's own."""

import os
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


@pytest.mark.parametrize("sees_the_host", [True, False])
def test_versions_that_differ_are_said(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, sees_the_host: bool
) -> None:
    monkeypatch.setattr(host_programs, "_sees_the_host", lambda: sees_the_host)
    host_programs.use([], folder=folder)
    assert "2.1.10" in run("iscsiadm")
    assert ("the image's is 2.1.10, and the host's is 2.1.11" in caplog.text) is sees_the_host
