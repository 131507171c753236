"""Markers of what a test needs beside this project's Python packages: `make check` runs those that have none.

They follow from a test's folder and fixtures; what else needs something has the marker in its module.
"""

from collections.abc import Iterator

import pytest

_OF_FOLDERS = {
    "tests/cluster/": "cluster",
    "tests/arrays/": "root",
    "tests/conformance/": "root",
    "tests/crash/": "root",
}
_OF_FIXTURES = {
    "api_server": "kubernetes",
    "kubernetes": "kubernetes",
    "served": "root",  # a server that is a node, too
    "claim": "root",  # staged on a node
    "pair": "root",
    "mounts": "root",  # of other filesystems, or files that loop devices show
}


def mark_needs(item: pytest.Item) -> None:
    for marker in set(_markers(item)):
        item.add_marker(marker)


def _markers(item: pytest.Item) -> Iterator[str]:
    for folder, marker in _OF_FOLDERS.items():
        if item.nodeid.startswith(folder):
            yield marker
    for fixture in getattr(item, "fixturenames", ()):
        if (item.nodeid.startswith("tests/node/"), fixture) == (True, "server"):
            yield "root"  # it is a node, too
        if fixture in _OF_FIXTURES:
            yield _OF_FIXTURES[fixture]
