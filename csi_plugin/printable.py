"""Text from outside, safe to show on a terminal."""

import unicodedata

_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what is no character: it moves the cursor, hides text, or turns its direction."""


def printable(text: str, *, keep: str = "") -> str:
    """Text with its control characters escaped, except those of ``keep``."""
    if text.isprintable():
        return text
    return "".join(_escaped(one) if _is_control(one) and one not in keep else one for one in text)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in _CONTROLS


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
