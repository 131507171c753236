"""Writes an image of a few static programs as a docker-archive: static_image.py ARCHIVE NAME COMMAND PROGRAM...

busybox brings its applets; other programs are put at the root.
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path


def main(archive: str, name: str, command: str, *programs: str) -> None:
    layer = layer_of([Path(program) for program in programs])
    digest = hashlib.sha256(layer).hexdigest()
    configuration = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": command.split(), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    identity = hashlib.sha256(configuration).hexdigest()
    manifest = [{"Config": f"{identity}.json", "RepoTags": [name], "Layers": [f"{digest}.tar"]}]
    with tarfile.open(archive, "w") as out:
        add(out, f"{identity}.json", configuration)
        add(out, f"{digest}.tar", layer)
        add(out, "manifest.json", json.dumps(manifest).encode())


def layer_of(programs: list[Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev", "mnt", "csi", "run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            layer.addfile(entry)
        for program in programs:
            at = "bin/busybox" if program.name == "busybox" else program.name
            add(layer, at, program.read_bytes())
            if program.name == "busybox":
                for applet in subprocess.run([program, "--list"], capture_output=True, text=True).stdout.split():
                    if applet != "busybox":
                        link = tarfile.TarInfo(f"bin/{applet}")
                        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                        layer.addfile(link)
    return buffer.getvalue()


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o755
    archive.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main(*sys.argv[1:])
