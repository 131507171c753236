"""Failures of recovery: logged, and tried again at the next review."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from csi_plugin.error_text import error_text
from csi_plugin.persistence.base import PersistenceError
from csi_plugin.protocol.errors import RpcError

LOG = logging.getLogger(__name__)


@contextmanager
def logged(what: str) -> Iterator[None]:
    """One object's failure must not stop the others, and storage that fails now may work at the next review."""
    try:
        yield
    except RpcError as error:
        LOG.info("%s: not now: %s", what, error.message)
    except PersistenceError as error:
        LOG.warning("%s: %s", what, error)
    except Exception as error:  # a driver can raise anything
        LOG.warning("%s: %s", what, error_text(error), exc_info=True)
