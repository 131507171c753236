"""Command blocks of the pages, which tests run as they are printed.

In front of each block a comment, which readers do not see, says which test runs it, or why none does:
``<!-- run by tests/cluster/test_walk.py::test_it -->``, ``<!-- not run: it shows what is printed -->``.
"""

import re
from dataclasses import dataclass

from tests.support.project import PROJECT

_LINES = r"(?:    .*\n|\n(?=    ))+"
_COMMENT = r"<!-- (?P<comment>.*?) -->\n\n"
_BLOCK = re.compile(rf"^(?P<before>.*)\n\n(?:{_COMMENT})?(?P<lines>(?=    [^\s-]){_LINES})", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of a page."""

    before: str
    """The line in front of it."""
    comment: str
    script: str


def blocks(page: str) -> list[Block]:
    """The indented blocks of a page, by its path in the project."""
    return [
        Block(
            before=found["before"],
            comment=found["comment"] or "",
            script=re.sub("^    ", "", found["lines"], flags=re.MULTILINE),
        )
        for found in _BLOCK.finditer((PROJECT / page).read_text())
    ]


def commands(page: str, after: str) -> str:
    """The one block behind the line that ends with ``after``."""
    scripts = [block.script for block in blocks(page) if block.before.endswith(after)]
    assert len(scripts) == 1, f"{page} has {len(scripts)} blocks after {after!r}"
    return scripts[0]
