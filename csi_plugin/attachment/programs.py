"""Running the system's programs: always a list of arguments, never a shell."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from csi_plugin.instrumentation import tracing

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def search_path(path: str) -> str:
    """A PATH, which may be empty, with the folders of this Python's programs and of the system's behind its own.

    An empty folder is left out: it would be the current one.
    """
    folders = [folder for folder in path.split(os.pathsep) if folder]
    own = str(Path(sys.prefix, "bin"))
    return os.pathsep.join(dict.fromkeys([*folders, own, *_SYSTEM_FOLDERS]))


class ProgramFailed(Exception):
    """A program ended with an error, or not in time. The message has the program's own words, and no input."""

    def __init__(self, arguments: Sequence[str], status: int | None, output: str) -> None:
        how = f"ended with status {status}" if status is not None else "did not end in time"
        super().__init__(f"{arguments[0]} {how}: {output.strip()[-1000:] or 'no message'}")
        self.status = status
        self.output = output


def run(
    *arguments: str,
    allowed: Sequence[int] = (0,),
    timeout: float = 120,
    stdin: bytes | None = None,
    pass_fds: Sequence[int] = (),
    folder: str | None = None,
) -> str:
    """Run a program and return what it printed. ``allowed``: exit statuses that are no error; ``timeout``: seconds;
    ``folder``: where it runs, here if not given.

    Raises ProgramFailed.
    """
    environment = {**os.environ, "PATH": search_path(os.environ.get("PATH", "")), "LC_ALL": "C"}
    try:
        with tracing.span(f"command.{Path(arguments[0]).name}"):
            done = subprocess.run(
                arguments,
                input=stdin if stdin is not None else b"",
                capture_output=True,
                timeout=timeout,
                check=False,
                env=environment,
                pass_fds=pass_fds,
                cwd=folder,
            )
    except FileNotFoundError:
        raise ProgramFailed(arguments, 127, f"{arguments[0]} is not installed") from None
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(arguments, None, (error.stderr or b"").decode(errors="replace")) from None
    if done.returncode not in allowed:
        raise ProgramFailed(arguments, done.returncode, (done.stderr + done.stdout).decode(errors="replace"))
    return done.stdout.decode(errors="replace")
