"""Which QoS specs a driver does something with: Cinder lets every driver define its own, and checks none of them."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from csi_plugin.storage.cinder.driver_classes import driver_class
from csi_plugin.storage.cinder.option_definitions import modules_of
from csi_plugin.suggestions import did_you_mean

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_:.-]*")
_LEAST_STEM = 5
"""Characters of a name that others begin with, as total_iops_sec_per_gb does with total_iops_sec."""
_COUNTED = re.compile(r"iops|bytes_sec|bps|bws|bandwidth|throughput", re.IGNORECASE)
_COUNT = re.compile(r"[0-9]+(\.[0-9]+)?")


def check(driver: Any, specs: Mapping[str, str], *, stats: Mapping[str, Any]) -> None:
    """Raise ValueError for specs that a driver does not know, and so would not hold to, and for values that are none.

    ``stats``: the driver's last ones. A driver knows the names that its modules mention: each has its own, and no list.
    """
    if not specs:
        return
    known = _texts(f"{type(driver).__module__}.{type(driver).__qualname__}")
    if not _has_qos(stats, known):
        raise ValueError("its driver has no QoS: leave QoS specs out, or name a backend that has")
    for name, value in specs.items():
        if name == "consumer" and value != "back-end":
            raise ValueError(f"QoS spec consumer must be back-end, not {value!r}: no node limits what its pods do")
        if not _is_known(name, known):
            likely = [text for text in known if _COUNTED.search(text) or "qos" in text.lower()]
            hint = did_you_mean(name, likely)
            raise ValueError(f"its driver {type(driver).__name__} knows no QoS spec {name!r}{hint}")
        if _COUNTED.search(name) and not _COUNT.fullmatch(value):
            raise ValueError(f"QoS spec {name} must be a number, not {value!r}")


def _has_qos(stats: Mapping[str, Any], known: frozenset[str]) -> bool:
    """As the driver reports; where it reports nothing, whether its modules speak of QoS specs."""
    pools = stats.get("pools") or [stats]
    reported = [found for pool in pools if (found := pool.get("QoS_support", stats.get("QoS_support"))) is not None]
    if reported:
        return any(str(value).lower() in ("true", "<is> true", "1") for value in reported)
    return any("qos" in text.lower() for text in known)


def _is_known(name: str, known: frozenset[str]) -> bool:
    return name in known or any(
        name.startswith(f"{text}_") and len(text) >= _LEAST_STEM and _COUNTED.search(text) for text in known
    )


@cache
def _texts(driver_path: str) -> frozenset[str]:
    """The names in quotes, and those of attributes, in a driver's modules."""
    found: set[str] = set()
    for module in modules_of(driver_class(driver_path)):
        if module.__file__:
            tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
            found.update(text for node in ast.walk(tree) if _NAME.fullmatch(text := _text(node)))
    return frozenset(found)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
