"""Rules of the CSI spec for topology keys and values ("Topology"), checked where an administrator names them."""

import re
from collections.abc import Iterable
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


def check_topologies(topologies: Iterable[tuple[str, Any]]) -> None:
    """Refuse segments that no CO could use. ``topologies``: pairs of the setting's name and one topology's segments.

    Raises ValueError that names the setting. Keys that differ only in capitals, or in their prefixes, are refused
    across all topologies.
    """
    spellings: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for setting, segments in topologies:
        if not isinstance(segments, dict) or not segments:
            raise ValueError(f"{setting}: a topology is a map of one or more segments, such as {{zone: z1}}")
        for key, value in segments.items():
            prefix = _checked_prefix(setting, key, value)
            if spellings.setdefault(key.lower(), key) != key:
                raise ValueError(f"{setting}: keys {key!r} and {spellings[key.lower()]!r} differ only in capitals")
            if prefix:
                prefixes[prefix] = key
            if len(prefixes) > 1:
                raise ValueError(f"{setting}: all keys must have the same prefix, not {', '.join(sorted(prefixes))}")


def _checked_prefix(setting: str, key: Any, value: Any) -> str:
    prefix, slash, name = key.rpartition("/") if isinstance(key, str) else ("", "", "")
    if not _NAME.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
        raise ValueError(
            f"{setting}: {key!r} must be a name of at most 63 letters, digits, dots, dashes and underscores, with a "
            "letter or digit at both ends, and may have a domain name and a slash in front"
        )
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"{setting}: {key} must have at most 63 letters, digits, dots, dashes and underscores, with a letter or "
            f"digit at both ends, not {value!r}"
        )
    return prefix
