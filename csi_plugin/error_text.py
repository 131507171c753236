"""Errors as text for humans."""

from csi_plugin.secrets_in_text import redact_text

_LIMIT = 4096


def error_text(error: BaseException) -> str:
    """An error's text, bounded: its class when it has no text, and never a secret."""
    try:
        text = str(error).strip()
    except Exception:  # noqa: BLE001 - a class of somebody else's
        text = ""
    return redact_text(text or type(error).__name__, limit=_LIMIT)
