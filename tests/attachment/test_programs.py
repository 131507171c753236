"""Running programs: never through a shell, always with an end, and errors in the program's own words."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from csi_plugin.attachment.programs import ProgramFailed, ProgramStuck, run
from tests.support.csi import MIB
from tests.support.polling import wait_until


def test_arguments_reach_the_program_as_they_are() -> None:
    assert run("printf", "%s|", "a b", "$(id)", ";", "'") == "a b|$(id)|;|'|"


def test_a_failure_has_the_programs_words() -> None:
    with pytest.raises(ProgramFailed, match=r"ls ended with status 2: .*no-such-file") as caught:
        run("ls", "/no-such-file")
    assert caught.value.status == 2
    assert run("ls", "/no-such-file", allowed=(2,)) == ""


def test_programs_are_found_without_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mount", "true"):
        (tmp_path / name).write_text("#!/bin/sh\necho of the current folder\n")
        (tmp_path / name).chmod(0o755)
    for path in ("", None):
        monkeypatch.delenv("PATH", raising=False) if path is None else monkeypatch.setenv("PATH", path)
        assert "util-linux" in run("mount", "--version")
        assert run("true") == ""


def test_a_hanging_program_is_ended() -> None:
    with pytest.raises(ProgramFailed, match="did not end in time"):
        run("sleep", "infinity", timeout=0.2)


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramFailed, match="no-such-program is not installed"):
        run("no-such-program")


def test_a_program_that_may_not_be_run_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "no-program").write_text("no program")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramFailed, match="no-program is not installed, or this user may not run it"):
        run("no-program")


def test_input_is_not_part_of_an_error() -> None:
    with pytest.raises(ProgramFailed) as caught:
        run("sh", "-c", "cat > /dev/null; exit 3", stdin=b"secret")
    assert "secret" not in str(caught.value)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[Path]:
    """A filesystem on which each write waits in the kernel."""
    image, folder = tmp_path / "image", tmp_path / "mounted"
    image.write_bytes(bytes(8 * MIB))
    folder.mkdir()
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    subprocess.run(["fsfreeze", "--freeze", str(folder)], check=True)
    yield folder
    subprocess.run(["fsfreeze", "--unfreeze", str(folder)], check=False)
    wait_until(lambda: subprocess.run(["umount", str(folder)], check=False).returncode == 0, lambda: "busy")


@pytest.mark.root
def test_a_program_that_cannot_be_killed_is_given_up(frozen: Path) -> None:
    """And a later call finds it, instead of starting another."""
    command = ("touch", str(frozen / "file"))
    processes = []
    for _ in range(2):
        with pytest.raises(ProgramStuck, match="waits in the kernel") as error:
            run(*command, timeout=0.2)
        processes.append(re.findall(r"process (\d+)", str(error.value)))
    assert processes[0] == processes[1]
    subprocess.run(["fsfreeze", "--unfreeze", str(frozen)], check=True)
    wait_until(lambda: not is_stuck(command), lambda: "it does not end")
    assert (frozen / "file").exists()


def is_stuck(command: tuple[str, ...]) -> bool:
    try:
        run(*command)
    except ProgramStuck:
        return True
    return False
