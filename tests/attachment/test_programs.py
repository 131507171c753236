"""Running programs: never through a shell, always with an end, and errors in the program's own words."""

import pytest

from csi_plugin.attachment.programs import ProgramFailed, run


def test_arguments_reach_the_program_as_they_are() -> None:
    assert run("printf", "%s|", "a b", "$(id)", ";", "'") == "a b|$(id)|;|'|"


def test_a_failure_has_the_programs_words() -> None:
    with pytest.raises(ProgramFailed, match=r"ls ended with status 2: .*no-such-file") as caught:
        run("ls", "/no-such-file")
    assert caught.value.status == 2
    assert run("ls", "/no-such-file", allowed=(2,)) == ""


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
