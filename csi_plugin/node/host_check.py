"""What a host's own configuration has to say so that it keeps out of volumes: read, and never changed."""

import re
from collections.abc import Iterator
from pathlib import Path

_LVM, _LVM_DEVICES = "etc/lvm/lvm.conf", "etc/lvm/devices/system.devices"
_MULTIPATH = "etc/multipath.conf"
_MDADM = ("etc/mdadm/mdadm.conf", "etc/mdadm.conf")
_ISCSID = "etc/iscsi/iscsid.conf"
_PROGRAMS = ("usr/sbin", "sbin", "usr/bin")

_LVM_FILTER = re.compile(r'^\s*(global_)?filter\s*=\s*\[.*"r\|\.\*\|"', re.MULTILINE | re.DOTALL)
_NO_DEVICES_FILE = re.compile(r"^\s*use_devicesfile\s*=\s*0", re.MULTILINE)
_MD_AUTO = re.compile(r"^\s*AUTO\s+-all\b", re.MULTILINE)
_AUTOMATIC = re.compile(r"^\s*node\.startup\s*=\s*automatic\b", re.MULTILINE)

_MULTIPATH_RULES = {
    "find_multipaths": (("yes", "on", "strict", "smart"), "find_multipaths yes", "a map for each disk of the host"),
    "skip_kpartx": (("yes",), "skip_kpartx yes", "maps for partitions inside of volumes"),
}
"""By name: values that will do, what to write, and what there is otherwise."""


def lacks(root: Path, *, multipath: bool) -> Iterator[str]:
    """What the host whose files are below ``root`` lacks, each with what to write where. ``multipath``: whether volumes
    are attached over all paths."""
    if _has(root, "lvm"):
        yield from _lvm(root)
    if multipath:
        yield from _multipath(root)
    if _has(root, "mdadm") and not any(_MD_AUTO.search(_text(root, name)) for name in _MDADM):
        yield f"/{_MDADM[0]}: udev assembles arrays that are inside of volumes; write: AUTO -all"
    if _AUTOMATIC.search(_text(root, _ISCSID)):
        yield (
            f"/{_ISCSID}: a host that starts again logs in by itself to what it once had; write: node.startup = manual"
        )


def _lvm(root: Path) -> Iterator[str]:
    text = _text(root, _LVM)
    has_devices_file = (root / _LVM_DEVICES).exists() and not _NO_DEVICES_FILE.search(text)
    if not has_devices_file and not _LVM_FILTER.search(text):
        yield (
            f"/{_LVM}: LVM activates volume groups that are inside of volumes, and waits for volumes whose storage is "
            'away; write, with the host\'s own disks: devices { global_filter = [ "a|^/dev/disk/by-id/OWN_DISK.*|", '
            '"r|.*|" ] }, or give it a devices file (vgimportdevices --all)'
        )


def _multipath(root: Path) -> Iterator[str]:
    if not _has(root, "multipathd"):
        yield "multipathd: not installed, and volumes are attached over all paths (request_multipath)"
        return
    settings = _multipath_settings(_text(root, _MULTIPATH))
    for name, (allowed, wanted, otherwise) in _MULTIPATH_RULES.items():
        if settings.get(name) not in allowed:
            yield f"/{_MULTIPATH}: multipathd may make {otherwise}; write in defaults: {wanted}"
    if settings.get("no_path_retry") in (None, "queue") or "queue_if_no_path" in settings.get("features", ""):
        yield (
            f"/{_MULTIPATH}: what is written to a volume without paths may wait for ever; write in defaults: "
            "no_path_retry 12, and no queue_if_no_path in features"
        )


def _multipath_settings(text: str) -> dict[str, str]:
    """All that multipath.conf sets, in whatever section: the last one counts."""
    lines = (line.partition("#")[0].split(None, 1) for line in text.splitlines())
    return {words[0]: words[1].strip().strip('"') for words in lines if len(words) == 2}


def _has(root: Path, program: str) -> bool:
    return any((root / folder / program).exists() for folder in _PROGRAMS)


def _text(root: Path, name: str) -> str:
    """A file without comments; empty where there is none."""
    try:
        text = (root / name).read_text(errors="replace")
    except OSError:
        return ""
    return re.sub(r"^\s*[#!].*$", "", text, flags=re.MULTILINE)
