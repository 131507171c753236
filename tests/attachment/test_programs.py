"""Running programs: never through a shell, always with an end, and errors in the program's own words."""

from pathlib import Path

import pytest

from csi_plugin.attachment.programs import ProgramFailed, run


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


def test_input_is_not_part_of_an_error() -> None:
    with pytest.raises(ProgramFailed) as caught:
        run("sh", "-c", "cat > /dev/null; exit 3", stdin=b"secret")
    assert "secret" not in str(caught.value)
