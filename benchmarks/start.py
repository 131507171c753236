"""Measures how fast the server starts and how much memory an idle node takes.

Prints the median of several starts in mode all (seconds until the socket answers, and until Probe says ready, on the
loop driver with an SQLite database that exists already), and the resident set of the idle process in mode node (MiB).
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc

from csi_plugin.protocol import csi_pb2, csi_pb2_grpc

STARTS = 5
PATIENCE = 60  # seconds
AIMS = {"socket": 1.0, "ready": 2.0, "node": 60.0}


@contextmanager
def server(mode: str, directory: Path) -> Iterator[tuple[int, csi_pb2_grpc.IdentityStub]]:
    """Run `cinderbox serve`; yields its process id and a stub at once, before it is up."""
    socket = directory / f"{mode}.sock"
    volumes = directory / "volumes"
    volumes.mkdir(exist_ok=True)
    environment = os.environ | {
        "CSI_ENDPOINT": f"unix://{socket}",
        "CSI_MODE": mode,
        "CINDERBOX_STATE_DIR": f"{directory}/state",
        "CINDERBOX_REGISTRY_ENDPOINT": f"unix://{directory}/registry.sock",
        "X_CSI_PERSISTENCE_CONFIG": f'{{"storage":"db","connection":"sqlite:///{directory}/cinderbox.db"}}',
        "X_CSI_BACKEND_CONFIG": '{"name":"loop","driver":"csi_plugin.storage.drivers.loop.LoopDriver",'
        f'"loop_volumes_dir":"{volumes}"}}',
    }
    command = Path(sys.executable).with_name("cinderbox")
    with (directory / f"{mode}.log").open("wb") as log:
        process = subprocess.Popen(
            [command, "serve"], env=environment, cwd=directory, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            with grpc.insecure_channel(
                f"unix:{socket}",
                # Look for the socket often: the default back-off of a second would be part of the result.
                options=[(f"grpc.{name}_reconnect_backoff_ms", 10) for name in ("initial", "min", "max")],
            ) as channel:
                yield process.pid, csi_pb2_grpc.IdentityStub(channel)
        except BaseException:
            print((directory / f"{mode}.log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(PATIENCE)


def seconds_to_start(directory: Path) -> tuple[float, float]:
    """Return the seconds until the socket answers and until Probe says ready."""
    begin = time.monotonic()
    with server("all", directory) as (_, identity):
        identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest(), wait_for_ready=True, timeout=PATIENCE)
        answered = time.monotonic()
        while not identity.Probe(csi_pb2.ProbeRequest(), timeout=PATIENCE).ready.value:
            if time.monotonic() - begin > PATIENCE:
                raise TimeoutError(f"Probe was not ready within {PATIENCE} s")
            time.sleep(0.02)
        return answered - begin, time.monotonic() - begin


def resident_mib_of_idle_node(directory: Path) -> float:
    """Return the resident set of a node and its children, in MiB, once it is ready."""
    with server("node", directory) as (pid, identity):
        identity.Probe(csi_pb2.ProbeRequest(), wait_for_ready=True, timeout=PATIENCE)
        while len(list(family(pid))) > 1:  # the process that read the host's identity ends after a minute
            time.sleep(0.5)
        return sum(resident_kib(process) for process in family(pid)) / 1024


def family(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def resident_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cinderbox-bench-") as name:
        directory = Path(name)
        seconds_to_start(directory)  # makes the database
        starts = [seconds_to_start(directory) for _ in range(STARTS)]
        socket = statistics.median(start[0] for start in starts)
        ready = statistics.median(start[1] for start in starts)
        node = resident_mib_of_idle_node(directory)
    print(f"{'start to socket answering':32}{socket:8.2f} s    (aim: under {AIMS['socket']} s)")
    print(f"{'start to Probe ready':32}{ready:8.2f} s    (aim: under {AIMS['ready']} s)")
    print(f"{'resident set of an idle node':32}{node:8.1f} MiB  (aim: under {AIMS['node']:.0f} MiB)")


if __name__ == "__main__":
    main()
