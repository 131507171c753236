"""Features of filesystems that older kernels do not know: not made, and named where a filesystem has them.

mkfs turns on what the kernel of its own time knows, and a node's kernel may be years older than the image's programs.
"""

import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from csi_plugin.attachment.programs import ProgramFailed, run

Version = tuple[int, int]

_NUMBERS = re.compile(r"(\d+)\.(\d+)")
EXT = ("ext2", "ext3", "ext4")


@dataclass(frozen=True)
class Feature:
    """``option``: of mkfs; ``kernel``: the first that mounts it; ``program``: the first version of mkfs that has it."""

    name: str
    option: str
    kernel: Version
    program: Version


_FEATURES = {
    "ext4": (Feature("orphan_file", "-O", (5, 15), (1, 47)),),
    "xfs": (
        Feature("bigtime", "-m", (5, 10), (5, 10)),
        Feature("inobtcount", "-m", (5, 10), (5, 10)),
        Feature("nrext64", "-i", (5, 19), (5, 19)),
        Feature("exchange", "-i", (6, 10), (6, 10)),
        Feature("parent", "-n", (6, 10), (6, 10)),
        Feature("metadir", "-m", (6, 13), (6, 13)),
    ),
}

# Superblocks: offset and form of the words of flags, and what a flag in which word stands for.
_XFS_FLAGS = (0, b"XFSB", 208, ">III")
_XFS_BITS = {
    (1, 0x8): "inobtcount",
    (2, 0x8): "bigtime",
    (2, 0x20): "nrext64",
    (2, 0x40): "exchange",
    (2, 0x80): "parent",
    (2, 0x100): "metadir",
}
_EXT_FLAGS = (1024 + 56, b"\x53\xef", 1024 + 92, "<III")
_EXT_BITS = {(0, 0x1000): "orphan_file"}


def parse_version(text: str) -> Version:
    """The first two numbers of a version, such as a kernel's. Raises ValueError."""
    found = _NUMBERS.search(text)
    if found is None:
        raise ValueError(f"{text!r} has no two numbers with a dot between them")
    return int(found[1]), int(found[2])


def words_for(filesystem: str, words: Sequence[str], *, oldest_kernel: str) -> list[str]:
    """mkfs's options with those that leave out what a kernel does not know. What is asked for by name stays.

    Raises ProgramFailed and ValueError.
    """
    features = _FEATURES.get(filesystem, ())
    wanted = parse_version(oldest_kernel)
    newer = [feature for feature in features if feature.kernel > wanted]
    if not newer:
        return list(words)
    program = parse_version(_version_text(f"mkfs.{filesystem}"))
    text = " ".join(words)
    left_out = [feature for feature in newer if feature.program <= program and feature.name not in text]
    if filesystem == "ext4":
        return _with_features(words, [f"^{feature.name}" for feature in left_out])
    return [*(word for feature in left_out for word in (feature.option, f"{feature.name}=0")), *words]


def _with_features(words: Sequence[str], names: list[str]) -> list[str]:
    """mke2fs takes one list of features, the last."""
    if not names:
        return list(words)
    for place, word in enumerate(words):
        if word == "-O" and place + 1 < len(words):
            return [*words[: place + 1], ",".join([words[place + 1], *names]), *words[place + 2 :]]
        if word.startswith("-O"):
            return [*words[:place], ",".join([word, *names]), *words[place + 1 :]]
    return ["-O", ",".join(names), *words]


def _version_text(program: str) -> str:
    try:
        # Some print it as an error: an exit status that is allowed by none shows both.
        return run(program, "-V", allowed=())
    except ProgramFailed as error:
        if error.status == 0:
            return error.output
        raise


def unknown_features(device_path: str, filesystem: str, *, kernel: str = "") -> list[str]:
    """What a filesystem has that this kernel (or ``kernel``) is too old for, each with the first kernel that is not."""
    known = {feature.name: feature for feature in _FEATURES.get("ext4" if filesystem in EXT else filesystem, ())}
    own = parse_version(kernel or os.uname().release)
    return [
        f"{name} (Linux {known[name].kernel[0]}.{known[name].kernel[1]})"
        for name in _features_of(Path(device_path), filesystem)
        if name in known and known[name].kernel > own
    ]


def _features_of(device: Path, filesystem: str) -> list[str]:
    if filesystem == "xfs":
        (place, magic, offset, form), bits = _XFS_FLAGS, _XFS_BITS
    elif filesystem in EXT:
        (place, magic, offset, form), bits = _EXT_FLAGS, _EXT_BITS
    else:
        return []
    try:
        with device.open("rb") as opened:
            content = opened.read(4096)
    except OSError:
        return []
    if content[place : place + len(magic)] != magic:
        return []
    flags = struct.unpack_from(form, content, offset)
    return [name for (word, bit), name in bits.items() if flags[word] & bit]
