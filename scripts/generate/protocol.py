"""Generates the Python modules and type stubs of the wire protocol from proto/.

Run by `make proto` and by the build (hatch_build.py). Needs grpcio-tools and mypy-protobuf.
"""

import shlex
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PACKAGE = "csi_plugin/protocol"


def generate(root: Path) -> None:
    """Write the modules and stubs of every proto/*.proto into csi_plugin/protocol/."""
    proto = root / "proto"
    sources = sorted(proto.glob("*.proto"))
    with tempfile.TemporaryDirectory() as plugins:
        messages = _plugin(Path(plugins) / "protoc-gen-mypy", entry="main")
        services = _plugin(Path(plugins) / "protoc-gen-mypy_grpc", entry="grpc")
        status = protoc.main(
            [
                "protoc",
                # Mapping proto/ to the package's path makes the generated imports absolute.
                f"-I{PACKAGE}={proto}",
                f"-I{files('grpc_tools') / '_proto'}",
                f"--plugin=protoc-gen-mypy={messages}",
                f"--plugin=protoc-gen-mypy_grpc={services}",
                f"--python_out={root}",
                f"--grpc_python_out={root}",
                f"--mypy_out=quiet:{root}",
                f"--mypy_grpc_out=quiet,sync_only:{root}",
                *(f"{PACKAGE}/{source.name}" for source in sources),
            ]
        )
    if status != 0:
        raise RuntimeError(f"protoc failed with status {status} on {', '.join(s.name for s in sources)}")


def _plugin(path: Path, *, entry: str) -> Path:
    """Write a launcher of a mypy-protobuf plugin that runs in this interpreter, whatever PATH says."""
    program = f"from mypy_protobuf.main import {entry}; {entry}()"
    path.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(program)}\n")
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    generate(Path(__file__).resolve().parents[2])
