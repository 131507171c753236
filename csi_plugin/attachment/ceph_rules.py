"""What a connection may tell Ceph's clients: a user's key, and how an image is mapped.

os-brick writes the keyring into a ceph.conf as it comes, where other lines would be options: files that root writes,
modules that are loaded, programs that are run.
"""

import re
from typing import Any

_KEYRING_LIMIT = 16384
_LINES = (
    r"",
    r"[#;].*",
    r"\[client(\.[A-Za-z0-9._-]{1,255})?\]",
    r"key\s*=\s*[A-Za-z0-9+/=]{1,1024}",
    r"auid\s*=\s*\d{1,20}",
    r"caps\s+(mon|osd|mds|mgr)\s*=\s*\"?[\x20-\x7e]{0,4096}",
)
_LINE = re.compile("|".join(f"({line})" for line in _LINES))
_CONTINUED = re.compile(r".*\\\s*")
_MAP_OPTION = re.compile(r"[a-z_]+(=[A-Za-z0-9_.:|/\[\]-]{1,255})?")
_MAP_OPTIONS = (
    "fsid ip share noshare crc nocrc cephx_require_signatures nocephx_require_signatures cephx_sign_messages "
    "nocephx_sign_messages tcp_nodelay notcp_nodelay mount_timeout osdkeepalive osd_idle_ttl osd_request_timeout "
    "queue_depth lock_on_read exclusive lock_timeout trim notrim abort_on_full alloc_size crush_location "
    "read_from_replica compression_hint ms_mode rxbounce udev noudev"
)


def keyring_fault(keyring: Any) -> str | None:
    """What is wrong with a keyring; None where nothing is."""
    if not isinstance(keyring, str) or len(keyring) > _KEYRING_LIMIT:
        return f"must be a keyring of at most {_KEYRING_LIMIT} characters"
    for number, line in enumerate(re.split(r"[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", keyring), 1):
        if not _LINE.fullmatch(line.strip(" \t")) or _CONTINUED.fullmatch(line):
            return f"must be a keyring: line {number} is neither [client.NAME] nor key, caps or auid of one"
    return None


def map_options_fault(options: Any) -> str | None:
    """What is wrong with a backend's rbd_map_options; None where nothing is."""
    words = options.split(",") if isinstance(options, str) and len(options) <= _KEYRING_LIMIT else ["="]
    allowed = _MAP_OPTIONS.split()
    for word in words:
        if word and (word.partition("=")[0] not in allowed or not _MAP_OPTION.fullmatch(word)):
            return f"must be options of rbd map, with commas between them, of {', '.join(sorted(allowed))}"
    return None
