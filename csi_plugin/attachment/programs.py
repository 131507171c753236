"""Running the system's programs: always a list of arguments, never a shell."""

import os
import subprocess
import sys
import threading
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


class ProgramStuck(ProgramFailed):
    """A program was killed and does not end: it waits in the kernel, for a device or a share that does not answer."""

    def __init__(self, arguments: Sequence[str], process_id: int) -> None:
        super().__init__(arguments, None, "")
        self.process_id = process_id
        where = _kernel_function(process_id)
        self.args = (
            f"{' '.join(arguments)} waits in the kernel{where}, for storage that does not answer, and cannot be killed "
            f"(process {process_id}); another one is not started before it has ended",
        )


_stuck: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}
"""Programs that were killed and have not ended, by their arguments."""
_stuck_lock = threading.Lock()
_KILLED_SECONDS = 2
"""A program that was killed ends within this, unless it waits in the kernel."""


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

    Raises ProgramFailed, and ProgramStuck at the latest soon after ``timeout``, also for a later call while the program
    has not ended.
    """
    _check_not_stuck(arguments)
    environment = {**os.environ, "PATH": search_path(os.environ.get("PATH", "")), "LC_ALL": "C"}
    try:
        with tracing.span(f"command.{Path(arguments[0]).name}"):
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                pass_fds=pass_fds,
                cwd=folder,
            )
            output, errors = _communicate(process, arguments, stdin or b"", timeout)
    except FileNotFoundError:
        raise ProgramFailed(arguments, 127, f"{arguments[0]} is not installed") from None
    except PermissionError:  # also where a folder of PATH may not be searched, and no other has it
        raise ProgramFailed(arguments, 126, f"{arguments[0]} is not installed, or this user may not run it") from None
    if process.returncode not in allowed:
        raise ProgramFailed(arguments, process.returncode, (errors + output).decode(errors="replace"))
    return output.decode(errors="replace")


def _communicate(
    process: subprocess.Popen[bytes], arguments: Sequence[str], stdin: bytes, timeout: float
) -> tuple[bytes, bytes]:
    """Standard output and standard error. Raises ProgramFailed for a program that does not end in time."""
    try:
        return process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        _end(process, arguments)
        raise ProgramFailed(arguments, None, (error.stderr or b"").decode(errors="replace")) from None
    except BaseException:
        process.kill()
        raise


def _end(process: subprocess.Popen[bytes], arguments: Sequence[str]) -> None:
    """Kill a program. Raises ProgramStuck when it does not end by that, and remembers it."""
    process.kill()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(_KILLED_SECONDS)
    except subprocess.TimeoutExpired:
        with _stuck_lock:
            _stuck[tuple(arguments)] = process
        raise ProgramStuck(arguments, process.pid) from None


def _check_not_stuck(arguments: tuple[str, ...]) -> None:
    with _stuck_lock:
        for key in [key for key, process in _stuck.items() if process.poll() is not None]:
            del _stuck[key]
        process = _stuck.get(arguments)
    if process is not None:
        raise ProgramStuck(arguments, process.pid)


def _kernel_function(process_id: int) -> str:
    """Where a process waits, in words; empty where the kernel does not tell."""
    try:
        name = Path(f"/proc/{process_id}/wchan").read_text().strip()
    except OSError:
        return ""
    return f" ({name})" if name.strip("0") else ""
