"""Answers of the API server that hold deeper lists and objects than Python reads.

A node may write anything into its own CinderNode, and the API server stores it: nobody else's records are to be lost
with it. No resource of ours is deeper than a few dozen levels.
"""

import json
import re
from typing import Any

_DEEPEST = 100
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def parse(text: str) -> Any:
    """The JSON value of a text, with null for what is too deep. Raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        return json.loads(shallow(text))


def shallow(text: str) -> str:
    """JSON with null for lists and objects that are too deep."""
    pieces, depth, kept = [], 0, 0
    for found in _TOKENS.finditer(text):
        if found[0] in "[{":
            depth += 1
            if depth == _DEEPEST + 1:
                pieces.append(text[kept : found.start()])
        elif found[0] in "]}":
            if depth == _DEEPEST + 1:
                pieces.append("null")
                kept = found.end()
            depth -= 1
    return "".join([*pieces, text[kept:]])
