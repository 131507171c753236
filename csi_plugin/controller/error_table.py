"""Errors of Cinder's drivers and of persistence as gRPC statuses."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from csi_plugin.error_text import error_text
from csi_plugin.persistence.base import PersistenceError, RecordExists, RecordNotFound, RevisionConflict, UnstorableText
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
    # what may work later
    "DriverNotInitialized": Code.UNAVAILABLE,
    "BackendNotReady": Code.UNAVAILABLE,
    "BackendBusy": Code.UNAVAILABLE,
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


def code_of(error: BaseException) -> grpc.StatusCode:
    """The status of a driver's error."""
    if any(isinstance(cause, OSError) and cause.errno in _FULL for cause in _causes(error)):
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


def persistence_error(error: PersistenceError) -> RpcError:
    """The status of a store's error: a lost race is ABORTED, what it can't hold INVALID_ARGUMENT, else UNAVAILABLE."""
    if isinstance(error, RecordExists | RecordNotFound | RevisionConflict):
        return RpcError(Code.ABORTED, f"conflicting concurrent update: {error}")
    if isinstance(error, UnstorableText):
        return RpcError(Code.INVALID_ARGUMENT, str(error))
    return RpcError(Code.UNAVAILABLE, f"metadata cannot be read or written now: {error_text(error)}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__
