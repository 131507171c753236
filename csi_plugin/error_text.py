"""Errors as text for humans."""

from csi_plugin.secrets_in_text import redact_text

_LIMIT = 4096


def error_text(error: BaseException) -> str:
    """An error's text, bounded: its class when it has no text, and never a secret."""
    return redact_text(str(error).strip() or type(error).__name__, limit=_LIMIT)
