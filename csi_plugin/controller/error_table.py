"""Errors of Cinder's drivers and of persistence as gRPC statuses."""

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from csi_plugin.error_text import error_text
from csi_plugin.persistence.base import (
    LeadershipLost,
    PersistenceError,
    RecordExists,
    RecordNotFound,
    RevisionConflict,
    UnstorableText,
)
from csi_plugin.persistence.sealing import SealingError
from csi_plugin.protocol.errors import RpcError

LOG = logging.getLogger(__name__)

Code = grpc.StatusCode

BY_CLASS_NAME: dict[str, grpc.StatusCode] = {
    # what is not there
    "VolumeNotFound": Code.NOT_FOUND,
    "SnapshotNotFound": Code.NOT_FOUND,
    "GroupNotFound": Code.NOT_FOUND,
    "GroupSnapshotNotFound": Code.NOT_FOUND,
    "VolumeAttachmentNotFound": Code.NOT_FOUND,
    # what is in use, or in a state that forbids it
    "VolumeIsBusy": Code.FAILED_PRECONDITION,
    "SnapshotIsBusy": Code.FAILED_PRECONDITION,
    "VolumeAttached": Code.FAILED_PRECONDITION,
    "VolumeInUse": Code.FAILED_PRECONDITION,
    "InvalidVolume": Code.FAILED_PRECONDITION,
    "InvalidSnapshot": Code.FAILED_PRECONDITION,
    "InvalidGroup": Code.FAILED_PRECONDITION,
    "InvalidGroupSnapshot": Code.FAILED_PRECONDITION,
    "InvalidConnectorException": Code.FAILED_PRECONDITION,
    "ConnectorRejected": Code.FAILED_PRECONDITION,
    # what the request asks for and nobody can do
    "InvalidInput": Code.INVALID_ARGUMENT,
    "InvalidParameterValue": Code.INVALID_ARGUMENT,
    "InvalidVolumeType": Code.INVALID_ARGUMENT,
    "InvalidQoSSpecs": Code.INVALID_ARGUMENT,
    "InvalidVolumeAttachMode": Code.INVALID_ARGUMENT,
    "InvalidMetadata": Code.INVALID_ARGUMENT,
    "InvalidMetadataSize": Code.INVALID_ARGUMENT,
    "VolumeSizeExceedsLimit": Code.OUT_OF_RANGE,
    # what ran out
    "NoPool": Code.RESOURCE_EXHAUSTED,
    "NoValidBackend": Code.RESOURCE_EXHAUSTED,
    "QuotaError": Code.RESOURCE_EXHAUSTED,
    "OverQuota": Code.RESOURCE_EXHAUSTED,
    "VolumeLimitExceeded": Code.RESOURCE_EXHAUSTED,
    "SnapshotLimitExceeded": Code.RESOURCE_EXHAUSTED,
    "RemoteFSNoSuitableShareFound": Code.RESOURCE_EXHAUSTED,
    "NoSpace": Code.RESOURCE_EXHAUSTED,  # librbd's
    "DiskQuotaExceeded": Code.RESOURCE_EXHAUSTED,  # librbd's
    # what may work later
    "DriverNotInitialized": Code.UNAVAILABLE,
    "BackendNotReady": Code.UNAVAILABLE,
    "BackendMissing": Code.UNAVAILABLE,
    "BackendBusy": Code.UNAVAILABLE,
    "StorageAway": Code.UNAVAILABLE,
    "RemoteFSNoSharesMounted": Code.UNAVAILABLE,
    "TimeoutError": Code.UNAVAILABLE,
    "ConnectionError": Code.UNAVAILABLE,
    "ConnectTimeout": Code.UNAVAILABLE,
    "ReadTimeout": Code.UNAVAILABLE,
    "LockAcquireFailed": Code.ABORTED,
    # what this driver lacks
    "NotImplementedError": Code.UNIMPLEMENTED,
}
"""By the name of the error's class or of the nearest base that is here, so that nothing of Cinder is imported. Every
other error of a driver (VolumeBackendAPIException, VolumeDriverException, a vendor's own...) is INTERNAL."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_WORDS = re.compile(
    r"insufficient (free |suitable |contiguous |allocatable )*(space|extents)|free space in (thin )?pool \S+ reached"
    r"|no space left on device|disk quota exceeded|not enough (free |available )?(disk )?space",
    re.IGNORECASE,
)
"""What programs write that drivers run: lvcreate and lvextend, dd, qemu-img, cp."""


def code_of(error: BaseException) -> grpc.StatusCode:
    """The status of a driver's error."""
    if any(_says_full(cause) for cause in causes(error)):
        return Code.RESOURCE_EXHAUSTED
    for kind in type(error).__mro__:
        if (code := BY_CLASS_NAME.get(kind.__name__)) is not None:
            return code
    return Code.INTERNAL


@contextmanager
def driver_errors(action: str) -> Iterator[None]:
    """Turn whatever a driver raises in the block into an RpcError: "<action>: <cause>", without secrets."""
    try:
        yield
    except RpcError:
        raise
    except PersistenceError as error:
        raise persistence_error(error) from error
    except Exception as error:  # vendors' drivers raise anything, and the CO's user must learn the cause
        code = code_of(error)
        LOG.warning("%s failed: %s", action, error_text(error), exc_info=code is Code.INTERNAL)
        raise RpcError(code, f"{action}: {error_text(error)}") from error


@contextmanager
def exhaustion_is_final() -> Iterator[None]:
    """Turn RESOURCE_EXHAUSTED in the block into FAILED_PRECONDITION, for RPCs whose sidecars take the former for an
    operation that may still be going on, which nobody can take back then; see docs/status-codes.md."""
    try:
        yield
    except RpcError as error:
        if error.code is not Code.RESOURCE_EXHAUSTED:
            raise
        raise RpcError(Code.FAILED_PRECONDITION, error.message) from error


def persistence_error(error: PersistenceError) -> RpcError:
    """The status of a store's error: a lost race is ABORTED, what it can't hold INVALID_ARGUMENT, what no key
    opens FAILED_PRECONDITION, else UNAVAILABLE."""
    if isinstance(error, RecordExists | RecordNotFound | RevisionConflict):
        return RpcError(Code.ABORTED, f"conflicting concurrent update: {error}")
    if isinstance(error, UnstorableText):
        return RpcError(Code.INVALID_ARGUMENT, str(error))
    if isinstance(error, SealingError):  # somebody has to do something
        return RpcError(Code.FAILED_PRECONDITION, str(error))
    if isinstance(error, LeadershipLost):
        return RpcError(Code.UNAVAILABLE, str(error))
    return RpcError(Code.UNAVAILABLE, f"metadata cannot be read or written now: {error_text(error)}")


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    # Of oslo's ProcessExecutionError.
    return any(_FULL_WORDS.search(str(getattr(error, name, None) or "")) for name in ("stdout", "stderr"))


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, each once."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
