"""Drivers that say that the storage has an object of that name already.

An earlier attempt created it then, of which records that were lost, or restored from a backup, know nothing, and it may
have data. Drivers and arrays say so in many words.
"""

import errno
import re

from csi_plugin.controller.error_table import causes
from csi_plugin.error_text import error_text
from csi_plugin.persistence.base import PersistenceError
from csi_plugin.protocol.errors import RpcError

_KIND = re.compile(r"exists|already_?exist|duplicate", re.IGNORECASE)
_NOT_THERE = re.compile(r"(does|do|did)(n't| ?not) (\w+ )?exist|not?exist|no longer exists?", re.IGNORECASE)
_TAKEN = re.compile(
    r"already (exist|present|there|used|in use|taken|defined|assigned|been (used|taken|created|defined|assigned))"
    r"|\bexists\b|\beexist\b|duplicate|not unique|must be unique|more than one \w+ with (the )?name"
    r"|name( \S+)? is( already)? (in use|used|taken)",
    re.IGNORECASE,
)
_MAY_BE_TAKEN = re.compile(r"exist|duplicat|\bunique\b|already|in use|conflict|\b409\b", re.IGNORECASE)


def is_duplicate(error: BaseException) -> bool:
    """Whether an error says it for sure, so that another name is worth a try."""
    for cause in _drivers_errors(error):
        kinds = [kind.__name__ for kind in type(cause).__mro__]
        if getattr(cause, "errno", None) == errno.EEXIST:
            return True
        if any(_KIND.search(name) and not _NOT_THERE.search(name) for name in kinds):
            return True
        if _TAKEN.search(_NOT_THERE.sub("", _text(cause))):
            return True
    return False


def may_be_duplicate(error: BaseException) -> bool:
    """Whether an error may mean it. Then a person decides what becomes of the object."""
    return is_duplicate(error) or any(_MAY_BE_TAKEN.search(_text(cause)) for cause in _drivers_errors(error))


def _drivers_errors(error: BaseException) -> list[BaseException]:
    """What came from a driver: our own refusals, and records that another one has created, say nothing of storage."""
    found = list(causes(error))
    if any(isinstance(cause, PersistenceError) for cause in found):
        return []
    return [cause for cause in found if not isinstance(cause, RpcError)]


def _text(error: BaseException) -> str:
    # Of oslo's ProcessExecutionError, which names the program's output apart.
    parts = (getattr(error, name, None) for name in ("stdout", "stderr", "code"))
    return " ".join([error_text(error), *(str(part) for part in parts if isinstance(part, str | bytes | int))])
