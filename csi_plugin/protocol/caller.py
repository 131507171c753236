"""Whom a call's certificate is of."""

from typing import Any

import grpc

from csi_plugin.protocol.errors import RpcError

_NAMES = ("x509_common_name", "x509_subject_alternative_name")


def check_node(call: Any, node_id: str) -> None:
    """Raise PERMISSION_DENIED for a caller over TLS whose certificate does not have the node's id as one of its names.

    A caller without TLS has come through a unix socket, which root alone opens.
    """
    context = call.auth_context() if call is not None else {}
    if b"ssl" not in context.get("transport_security_type", ()):
        return
    names = sorted({name.decode(errors="replace") for key in _NAMES for name in context.get(key, ())})
    if node_id not in names:
        raise RpcError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"node_id: the certificate is of {', '.join(names) or 'nobody'}, and does not speak for node {node_id!r}: "
            "each node needs one of its own that has its node_id as common name or as subject alternative name",
        )
