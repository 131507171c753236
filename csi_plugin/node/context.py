"""What every RPC of the node works with."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from csi_plugin.attachment import path_states
from csi_plugin.attachment.programs import ProgramFailed, ProgramStuck
from csi_plugin.node.attachment_process import AttachmentProcess
from csi_plugin.node.configuration import NodeConfiguration
from csi_plugin.node.failures import Failures, Verb
from csi_plugin.node.registration import Registration
from csi_plugin.node.volume_state import VolumeStates
from csi_plugin.protocol.errors import RpcError, failed_precondition, internal, invalid_argument, unavailable
from csi_plugin.protocol.inflight import InFlight

T = TypeVar("T")

_PATH_FAULTS = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.ELOOP)
"""What is wrong with a path that the CO gave, not with this node."""


@dataclass(kw_only=True)
class NodeContext:
    """Shared by all RPCs; everything in it is thread-safe."""

    configuration: NodeConfiguration
    states: VolumeStates
    attachment_process: AttachmentProcess
    inflight: InFlight
    path_marks: InFlight = field(default_factory=InFlight)
    """On staging and target paths, beside those on volumes in ``inflight``: two volumes may be meant for one path."""
    failures: Failures = field(default_factory=Failures)
    registration: Registration | None = None
    """Set when the registry is known, which in mode all is after the controller has started."""

    def run_for_health(
        self, volume_id: str, verb: Verb, request: Message, call: grpc.ServicerContext, action: Callable[[], T]
    ) -> T:
        """As run(), with its outcome remembered as the volume's health, also when the caller has given up."""

        def remembered() -> T:
            try:
                result = self._with_status(volume_id, action)
            except RpcError as error:
                self.failures.note(volume_id, verb, error)
                raise
            self.failures.forget(volume_id, verb)
            return result

        return self.run(volume_id, verb, request, call, remembered)

    def run(
        self, volume_id: str, verb: str, request: Message, call: grpc.ServicerContext, action: Callable[[], T]
    ) -> T:
        """Run one operation on a volume at a time; a repeat waits and shares the outcome. Faults of programs and
        devices become INTERNAL with their own words."""
        fingerprint = f"{verb} {hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()}"
        return self.inflight.run(
            inflight_key(volume_id),
            fingerprint,
            lambda: self._with_status(volume_id, action),
            wait_seconds=call.time_remaining(),
        )

    def _with_status(self, volume_id: str, action: Callable[[], T]) -> T:
        try:
            return _with_status(action)
        except ProgramStuck as error:
            raise internal(f"{error}; {self._describe_device(volume_id)}") from error

    def _describe_device(self, volume_id: str) -> str:
        try:
            state = self.states.load(volume_id)
        except RpcError:
            state = None
        return path_states.describe(state.device_path) if state and state.device_path else "its device is not known"

    def hold_path(self, path: str) -> AbstractContextManager[None]:
        """Be the only one that mounts or unmounts at a path, for the length of a block. Raises ABORTED."""
        return self.path_marks.hold(os.path.realpath(path))

    def publication(self, volume_id: str) -> str:
        """The volume on this node, as its sealed connection information is bound to it."""
        return f"{self.configuration.node_id}/{volume_id}"

    def connector(self) -> Mapping[str, Any] | None:
        """This host's connector properties, as they were registered last; None while they were not."""
        return None if self.registration is None else self.registration.connector()

    def fresh_connection(self, volume_id: str) -> str:
        """Connection information sealed to the node's present key, from the controller.

        Raises UNAVAILABLE and NOT_FOUND.
        """
        if self.registration is None:
            raise unavailable("the controller's node registry is not known yet; try again")
        try:
            return self.registration.connection(volume_id)
        except grpc.RpcError as error:
            raise RpcError(error.code(), f"node registry: {error.details()}") from error

    @contextmanager
    def staging(self, volume_id: str) -> Iterator[None]:
        """Stage a volume that a node which is heard of keeps, for the length of a block.

        Raises UNAVAILABLE, before the block, when the controller cannot be told.
        """
        with ExitStack() as told:
            try:
                if self.registration is None:
                    raise unavailable("the controller's node registry is not known yet")
                told.enter_context(self.registration.staging(volume_id))
            except (grpc.RpcError, RpcError) as error:
                reason = error.message if isinstance(error, RpcError) else error.details()
                raise unavailable(
                    f"volume {volume_id} is not staged, since the controller could not be told of it, which keeps it "
                    f"from other nodes meanwhile; try again: {reason}"
                ) from error
            yield

    def record_filesystem(self, volume_id: str, filesystem: str) -> None:
        """Let it be remembered with the volume that it has a filesystem, so that no node ever makes another one.

        Raises UNAVAILABLE, after which the volume must not be mounted, and NOT_FOUND.
        """
        if self.registration is None:
            raise unavailable("the controller's node registry is not known yet; try again")
        what = f"that the volume has {filesystem} could not be recorded, so it is not mounted; try again"
        try:
            self.registration.record_filesystem(volume_id, filesystem)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise RpcError(error.code(), f"node registry: {error.details()}") from error
            raise unavailable(f"{what}: node registry: {error.details()}") from error
        except RpcError as error:
            if error.code is grpc.StatusCode.NOT_FOUND:
                raise
            raise unavailable(f"{what}: {error.message}") from error


def inflight_key(volume_id: str) -> str:
    """Under which a volume is marked in flight on this node."""
    return f"node/{volume_id}"


def _with_status(action: Callable[[], T]) -> T:
    try:
        return action()
    except ProgramStuck:
        raise
    except (ProgramFailed, OSError) as error:
        if isinstance(error, OSError) and error.errno in _PATH_FAULTS:
            raise invalid_argument(f"path: {error.filename!r} cannot be used: {error.strerror}") from error
        if isinstance(error, OSError) and error.errno == errno.ENOTEMPTY:
            raise failed_precondition(f"path: {error.filename!r} is not empty, and nothing in it is removed") from error
        raise internal(str(error)) from error
