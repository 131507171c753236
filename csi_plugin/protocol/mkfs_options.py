"""What a StorageClass may ask of mkfs: an allow-list of options for each filesystem, with the form of the values.

Options that name files, folders or other devices, that make no filesystem or one of another size, are not in it: mkfs
runs as root beside the node's own files.
"""

import re
import shlex
from collections.abc import Mapping, Sequence

from csi_plugin.protocol.errors import invalid_argument

Values = str | Mapping[str, str] | None
"""Of one option: a pattern of its value, names of its suboptions with patterns of theirs, or None for no value."""

_NUMBER = r"\d{1,12}"
_SIZE = r"\d{1,12}[bskmgtKMGT]?"
_FLAG = r"[01]"
_NONE = ""
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_LABEL = r"[A-Za-z0-9_.:+@^-]{1,255}"

_EXT: Mapping[str, Values] = {
    "-b": r"-?\d{1,5}",
    "-C": _SIZE,
    "-e": r"continue|remount-ro",
    "-E": {
        "stride": _NUMBER,
        "stripe-width": _NUMBER,
        "stripe_width": _NUMBER,
        "resize": _NUMBER,
        "lazy_itable_init": rf"({_FLAG})?",
        "lazy_journal_init": rf"({_FLAG})?",
        "packed_meta_blocks": rf"({_FLAG})?",
        "assume_storage_prezeroed": rf"({_FLAG})?",
        "num_backup_sb": r"[012]",
        "root_owner": r"(\d{1,10}:\d{1,10})?",
        "hash_seed": _UUID,
        "mmp_update_interval": _NUMBER,
        "quotatype": r"(usr|grp|prj)quota(:(usr|grp|prj)quota)*",
        "encoding": r"utf8(-12\.1)?",
        "encoding_flags": r"strict|no-strict",
        "orphan_file_size": _SIZE,
        "discard": _NONE,
        "nodiscard": _NONE,
    },
    "-F": None,
    "-g": _NUMBER,
    "-G": _NUMBER,
    "-i": _NUMBER,
    "-I": _NUMBER,
    "-j": None,
    "-J": {"size": _SIZE, "location": _SIZE, "fast_commit_size": _SIZE},
    "-L": _LABEL,
    "-m": r"\d{1,2}(\.\d{1,6})?",
    "-N": _NUMBER,
    "-O": r"(?!.*journal_dev)\^?[a-z0-9_]+(,\^?[a-z0-9_]+)*",
    "-q": None,
    "-T": r"[a-z0-9]+(,[a-z0-9]+)*",
    "-U": rf"{_UUID}|random|time",
    "-v": None,
}
_XFS: Mapping[str, Values] = {
    "-b": {"size": _SIZE, "log": _NUMBER},
    "-d": {
        "agcount": _NUMBER,
        "agsize": _SIZE,
        "concurrency": _NUMBER,
        "cowextsize": _SIZE,
        "daxinherit": _FLAG,
        "extszinherit": _SIZE,
        "noalign": _NONE,
        "projinherit": _NUMBER,
        "rtinherit": _FLAG,
        "su": _SIZE,
        "sunit": _NUMBER,
        "sw": _NUMBER,
        "swidth": _NUMBER,
    },
    "-f": None,
    "-i": {
        "align": _FLAG,
        "attr": r"[12]",
        "exchange": _FLAG,
        "log": _NUMBER,
        "maxpct": _NUMBER,
        "nrext64": _FLAG,
        "perblock": _NUMBER,
        "projid32bit": _FLAG,
        "size": _SIZE,
        "sparse": _FLAG,
    },
    "-K": None,
    "-l": {
        "agnum": _NUMBER,
        "concurrency": _NUMBER,
        "internal": rf"({_FLAG})?",
        "lazy-count": _FLAG,
        "size": _SIZE,
        "su": _SIZE,
        "sunit": _NUMBER,
        "version": r"[12]",
    },
    "-L": r"[A-Za-z0-9_.:+@^-]{1,12}",
    "-m": {
        "autofsck": _FLAG,
        "bigtime": _FLAG,
        "crc": _FLAG,
        "finobt": _FLAG,
        "inobtcount": _FLAG,
        "reflink": _FLAG,
        "rmapbt": _FLAG,
        "uuid": _UUID,
    },
    "-n": {"ftype": _FLAG, "log": _NUMBER, "parent": _FLAG, "size": _SIZE, "version": r"2|ci"},
    "-q": None,
    "-s": {"log": _NUMBER, "size": _SIZE},
}
_BTRFS_LISTS = r"\^?[a-z0-9_-]+(,\^?[a-z0-9_-]+)*"
_BTRFS: Mapping[str, Values] = {
    **dict.fromkeys(("-d", "--data", "-m", "--metadata"), "single|dup"),
    **dict.fromkeys(("-f", "--force", "-K", "--nodiscard", "-M", "--mixed", "-q", "--quiet", "-v", "--verbose")),
    **dict.fromkeys(("-L", "--label"), _LABEL),
    **dict.fromkeys(("-n", "--nodesize", "-s", "--sectorsize"), _SIZE),
    **dict.fromkeys(("-O", "--features", "-R", "--runtime-features"), _BTRFS_LISTS),
    **dict.fromkeys(("-U", "--uuid"), _UUID),
    **dict.fromkeys(("--csum", "--checksum"), r"crc32c|xxhash|sha256|blake2"),
}
_ALLOWED: Mapping[str, Mapping[str, Values]] = {
    "ext2": _EXT,
    "ext3": _EXT,
    "ext4": _EXT,
    "xfs": _XFS,
    "btrfs": _BTRFS,
}
_KERNEL = re.compile(r"\d{1,2}\.\d{1,3}", re.ASCII)

FILESYSTEMS = tuple(_ALLOWED)
"""Those that volumes may have."""


def parse_mkfs_options(text: str, *, filesystem: str, field: str) -> list[str]:
    """The words for mkfs. ``filesystem``: empty where it is not known yet: what one of them allows, passes.

    Raises INVALID_ARGUMENT naming the option and the allowed ones.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise invalid_argument(f"{field}: {error}") from error
    refusals = [_refusal(words, _ALLOWED[name]) for name in ([filesystem] if filesystem else FILESYSTEMS)]
    if all(refusals):
        names = [filesystem] if filesystem else ["ext4", "xfs", "btrfs"]
        allowed = "; ".join(f"of {name} {' '.join(_forms(_ALLOWED[name]))}" for name in names)
        raise invalid_argument(f"{field}: {refusals[0]}. Allowed are {allowed}")
    return words


def check_oldest_kernel(text: str, *, field: str) -> None:
    """Raise INVALID_ARGUMENT for what is no version of Linux; empty is none given."""
    if text and not _KERNEL.fullmatch(text):
        raise invalid_argument(f"{field} must be a version of Linux such as 5.10, not {text[:40]!r}")


def _refusal(words: Sequence[str], allowed: Mapping[str, Values]) -> str:
    """Why the words are not allowed; empty when they are."""
    rest = list(words)
    while rest:
        option, value = _split(rest.pop(0))
        if option not in allowed:
            return f"{_shown(option)} is not an option that is allowed"
        values = allowed[option]
        if values is None:
            if value is not None:
                return f"{option} takes no value"
            continue
        if value is None:
            if not rest:
                return f"{option} needs a value"
            value = rest.pop(0)
        if reason := _value_refusal(option, value, values):
            return reason
    return ""


def _split(word: str) -> tuple[str, str | None]:
    """An option and the value in the same word: ``--name=value`` or ``-xvalue``."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    if word.startswith("-") and len(word) > 2:
        return word[:2], word[2:]
    return word, None


def _value_refusal(option: str, value: str, values: str | Mapping[str, str]) -> str:
    if isinstance(values, str):
        if re.fullmatch(values, value, re.ASCII):
            return ""
        return f"{option} cannot be {_shown(value)}"
    for suboption in value.split(","):
        name, equals, given = suboption.partition("=")
        if name not in values:
            return f"{option} {_shown(name)} is not allowed ({', '.join(values)} are)"
        if not re.fullmatch(values[name], given, re.ASCII) or (equals and not given):
            return f"{option} {name} cannot be {_shown(given)}"
    return ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 64 else f"{text[:64]}...")


def _forms(allowed: Mapping[str, Values]) -> list[str]:
    return [option for option in allowed if not option.startswith("--") or option in ("--csum",)]
