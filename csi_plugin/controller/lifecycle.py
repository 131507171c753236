"""How volumes, snapshots and group snapshots are created and deleted: one flow, which each kind fills in.

A name's attempts are counted by generations, and each has a record and an id of its own. The record is created before
the driver is called, so whatever a crash leaves is known; an attempt that did not end well is abandoned to recovery,
and the next one takes a new id.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import grpc

from csi_plugin.controller.attempts import (
    UNFINISHED_DELETED,
    Attempt,
    abandon_failed,
    abandon_interrupted,
    attempt_id,
    current_attempt,
    intent_of,
    last_deleted_generation,
    name_resource_of,
    next_generation,
    phase_of,
    resource_of,
    retire_id,
)
from csi_plugin.controller.context import Call, ControllerContext
from csi_plugin.controller.duplicates import is_duplicate
from csi_plugin.controller.identifiers import is_valid_id
from csi_plugin.persistence.records import JSON, Intent, Phase
from csi_plugin.protocol.errors import RpcError, aborted, already_exists

LOG = logging.getLogger(__name__)

A = TypeVar("A", bound=Attempt)

_GONE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED)
"""What a call answers whose object, or whose record, has gone meanwhile."""


class Creation(ABC, Generic[A]):
    """A valid request to create an object, and what is particular to its kind."""

    kind: type[A]
    words: str
    """What people call the kind: "volume"."""

    name: str
    """The name that the CO gave."""
    normalized: JSON
    """What a repeat must have in common with the first request; stored with the object."""

    def fingerprint(self) -> Any:
        """What a repeat of the running request must have in common with it, as JSON."""
        return self.normalized

    @abstractmethod
    def sources(self) -> Sequence[str]:
        """Resources that must neither go nor change while the object is created from them."""

    def exclusive(self) -> Sequence[str]:
        """Further resources at which nothing else may run meanwhile."""
        return ()

    @abstractmethod
    def differences(self, context: ControllerContext, record: A) -> list[str]:
        """The fields in which a finished object of the name is not what the request asks for."""

    def prepare_retry(self, context: ControllerContext, error: RpcError) -> bool:
        """Whether an attempt that ended so is followed by another one at once; what that needs is done then."""
        return is_duplicate(error)

    @abstractmethod
    def create(self, context: ControllerContext, object_id: str, intent: Intent) -> A:
        """Let the driver create the object; the library records the intent before and the outcome after."""


class Deletion(ABC, Generic[A]):
    """A valid request to delete an object, and what is particular to its kind."""

    kind: type[A]
    words: str

    object_id: str

    def fingerprint(self) -> Any:
        """What a repeat of the running request must have in common with it, as JSON."""
        return "delete"

    @abstractmethod
    def sources(self, context: ControllerContext, record: A) -> Sequence[str]:
        """Resources that go, and that nothing may be created from meanwhile."""

    @abstractmethod
    def delete(self, context: ControllerContext, record: A) -> None:
        """Refuse if something needs the object; otherwise let the driver delete it."""


def create(context: ControllerContext, creation: Creation[A], call: Call) -> A:
    """The object of the name, created unless it exists; a repeat of the running request waits and shares the outcome.

    Raises ALREADY_EXISTS for a finished object that is not what the request asks for, ABORTED while another operation
    runs on the name, the object or a source, and what the kind's own steps raise.
    """
    resource = name_resource_of(creation.kind, creation.name)
    return context.run(resource, creation.fingerprint(), lambda: _find_or_create(context, creation), call)


def delete(context: ControllerContext, deletion: Deletion[A], call: Call) -> None:
    """Delete the object; an unknown id is an object that is gone.

    Raises ABORTED while another operation runs on the object, or when its creation was finished meanwhile, and what the
    kind's own steps raise.
    """
    resource = resource_of(deletion.kind, deletion.object_id)
    context.run(resource, deletion.fingerprint(), lambda: _delete(context, deletion), call)


def _find_or_create(context: ControllerContext, creation: Creation[A]) -> A:
    attempts = context.store.find(creation.kind, csi_name=creation.name)
    current = current_attempt(attempts)
    if current is not None:
        match phase_of(current):
            case Phase.READY:
                _check_equal(context, creation, current)
                return current
            case Phase.DELETING:
                raise aborted(f"{creation.words} {current.id} of the name {creation.name!r} is being deleted")
        abandon_interrupted(context, current)
    try:
        return _create(context, creation, attempts)
    except RpcError as error:
        if not creation.prepare_retry(context, error):
            raise
        LOG.warning("%s %r is tried again at once: %s", creation.words, creation.name, error.message)
    return _retry(context, creation)


def _retry(context: ControllerContext, creation: Creation[A]) -> A:
    """Another attempt in the same call, after the first one was recorded as failed."""
    attempts = context.store.find(creation.kind, csi_name=creation.name)
    try:
        return _create(context, creation, attempts)
    except RpcError as error:
        if not is_duplicate(error):
            raise
        raise already_exists(
            f"name: the storage has objects of {creation.words} {creation.name!r} that no record tells of "
            f"(`cinderbox volumes orphans` lists them); the next attempt takes another id: {error.message}"
        ) from error


def _check_equal(context: ControllerContext, creation: Creation[A], record: A) -> None:
    if differing := creation.differences(context, record):
        raise already_exists(
            f"name: {creation.words} {creation.name!r} exists with other {', '.join(differing)}",
        )


def _create(context: ControllerContext, creation: Creation[A], attempts: Sequence[A]) -> A:
    deleted = last_deleted_generation(context, creation.kind, creation.name)
    generation = next_generation(attempts, deleted=deleted)
    object_id = attempt_id(context, creation.kind, creation.name, generation)
    intent = Intent(name=creation.name, generation=generation, request=creation.normalized)
    with (
        context.wait_and_hold(resource_of(creation.kind, object_id), *creation.exclusive()),
        context.source_locks.reading(*creation.sources()),
    ):
        try:
            record = creation.create(context, object_id, intent)
        except BaseException as error:
            abandon_failed(context, creation.kind, object_id, error)
            raise
        context.returned_ids.add(record.id)
        return record


def _delete(context: ControllerContext, deletion: Deletion[A]) -> None:
    record = context.store.get(deletion.kind, deletion.object_id) if is_valid_id(deletion.object_id) else None
    if record is None:
        return
    match phase_of(record):
        case Phase.DEFERRED | Phase.ORPHAN:
            return  # deleted for the CO already; recovery does the rest
        case Phase.CREATING:
            _abandon_unfinished(context, deletion, name=intent_of(record).name)
            return
    retire_id(context.deleted_names, record)
    with context.source_locks.changing(*deletion.sources(context, record)):
        try:
            deletion.delete(context, record)
        except RpcError as error:
            # A controller that stood still in its deletion of the object may have gone on, and come to its end.
            if error.code not in _GONE or context.store.get(deletion.kind, record.id) is not None:
                raise


def _abandon_unfinished(context: ControllerContext, deletion: Deletion[A], *, name: str) -> None:
    """An object whose creation a crash cut off, or an old backup's record of it: the CO wants it gone, but what it is
    in the storage is not known, so it is handled as any orphan.

    What was read without the name's mark may be out of date: a repeat of the creation may have abandoned it, or another
    controller may have finished it.
    """
    with context.hold(name_resource_of(deletion.kind, name)):
        record = context.store.get(deletion.kind, deletion.object_id)
        if record is None:
            return
        match phase_of(record):
            case Phase.CREATING:
                abandon_interrupted(context, record, why=UNFINISHED_DELETED)
            case Phase.READY | Phase.DELETING:
                raise aborted(f"{deletion.words} {deletion.object_id} has just been created")
