"""``cinderbox operations``: what the running process does now."""

from typing import Any

import typer

from csi_plugin.cli.output import Output, OutputOption, complain, show
from csi_plugin.cli.settings_source import SettingsOption, load_settings

_SECONDS = 10
EXIT_UNREACHABLE = 1


def operations(output: OutputOption = Output.TABLE, settings: SettingsOption = None) -> None:
    """List what the controller or node that serves here is doing, the oldest first: what each operation is about, where
    it is, and for how long.

    In Kubernetes, in its pod: kubectl exec deployment/cinderbox-controller -c cinderbox -- cinderbox operations
    """
    import grpc

    from csi_plugin.protocol import operations_pb2, operations_pb2_grpc
    from csi_plugin.server.endpoints import grpc_address

    endpoint = load_settings(settings).endpoint
    with grpc.insecure_channel(grpc_address(endpoint)) as channel:
        stub = operations_pb2_grpc.OperationsStub(channel)
        try:
            answer = stub.ListOperations(operations_pb2.ListOperationsRequest(), timeout=_SECONDS)
        except grpc.RpcError as error:
            complain(_reason(endpoint, error))
            raise typer.Exit(EXIT_UNREACHABLE) from None
    show([_row(operation) for operation in answer.operations], output, empty="nothing runs")


def _reason(endpoint: str, error: Any) -> str:
    import grpc

    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return f"nobody serves on {endpoint} (a controller that stands by does not): {error.details()}"
    return f"{endpoint} answers {error.code().name}: {error.details()}"


def _row(operation: Any) -> dict[str, Any]:
    overdue = round(operation.overdue_seconds) if operation.HasField("overdue_seconds") else None
    return {
        "what": operation.what,
        "resource": operation.resource,
        "name": operation.name,
        "backend": operation.backend,
        "age_seconds": round(operation.age_seconds),
        "step": operation.step,
        "step_seconds": round(operation.step_seconds),
        "command": operation.command,
        "overdue_seconds": overdue,
        "waiting_calls": operation.waiting_calls,
        "request_id": operation.request_id,
    }
