"""The backends of a cinder.conf as a program that starts them."""

import argparse
import keyword
import re
from pathlib import Path

from csi_plugin.storage.compatibility.cmd import cinder_to_yaml


def convert(source: str, dest: str) -> None:
    """Write the program of a cinder.conf. Raises as ``cinder_to_yaml.convert``."""
    lines = ["import cinderlib as cl", ""]
    for backend in cinder_to_yaml.convert(source)["backends"]:
        lines += [f"{_variable(backend['volume_backend_name'])} = cl.Backend("]
        lines += [f"    {_argument(name, value)}," for name, value in backend.items()]
        lines += [")", ""]
    Path(dest).write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description="Generate a Python program of cinderlib's from a cinder.conf")
    parser.add_argument("source", nargs="?", default="/etc/cinder/cinder.conf", help="the cinder.conf")
    parser.add_argument("dest", nargs="?", default="/dev/stdout", help="the program")
    arguments = parser.parse_args()
    convert(arguments.source, arguments.dest)


def _argument(name: str, value: object) -> str:
    return f"{name}={value!r}" if name.isidentifier() and not keyword.iskeyword(name) else f"**{ {name: value}!r}"


def _variable(backend_name: str) -> str:
    name = re.sub(r"\W", "_", backend_name)
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"backend_{name}"


if __name__ == "__main__":
    main()
