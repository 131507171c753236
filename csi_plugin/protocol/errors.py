"""Errors that end an RPC with a given gRPC status."""

import grpc


class RpcError(Exception):
    """Ends an RPC with ``code`` and ``message``; the server's interceptor turns it into the status.

    The message is for the CO's user: it names the field and what is allowed, and never holds a secret.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        # A path may have bytes that are no text, and gRPC sends text alone.
        message = message.encode(errors="backslashreplace").decode()
        super().__init__(message)
        self.code = code
        self.message = message


def invalid_argument(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.NOT_FOUND, message)


def already_exists(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.ALREADY_EXISTS, message)


def failed_precondition(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.FAILED_PRECONDITION, message)


def aborted(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.ABORTED, message)


def out_of_range(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.OUT_OF_RANGE, message)


def resource_exhausted(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, message)


def unimplemented(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.UNIMPLEMENTED, message)


def unavailable(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.UNAVAILABLE, message)


def internal(message: str) -> RpcError:
    return RpcError(grpc.StatusCode.INTERNAL, message)
