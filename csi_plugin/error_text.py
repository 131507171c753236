"""Errors as text for humans."""


def error_text(error: BaseException) -> str:
    """An error's text: its class when it has no text, and never a password."""
    from oslo_utils import strutils  # only a process that has seen an error pays for it

    return str(strutils.mask_password(str(error).strip() or type(error).__name__))
