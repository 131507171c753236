"""``cinderbox uninstall``: what an installation leaves in a cluster, and its removal."""

from pathlib import Path
from typing import Annotated

import typer

from csi_plugin.cli.output import complain, say


def uninstall(
    namespace: Annotated[str, typer.Option(help="Namespace of the installation that goes.")],
    kubeconfig: Annotated[Path | None, typer.Option(help="By default kubectl's.")] = None,
    driver: Annotated[str, typer.Option(help="Name of its CSI driver, where no record tells it any more.")] = "",
    leave_volumes: Annotated[
        bool, typer.Option("--leave-volumes", help="Drop the records of volumes, which stay on the storage.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this, it is only said what would go.")] = False,
) -> None:
    """Remove what `helm uninstall` keeps: admission policies, records and, with the last installation, the CRDs.

    Only what is of this namespace and its driver is touched. Nothing is, while its pods, volumes or attachments are
    there: ends with status 1 then, and says what is in the way.
    """
    from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
    from csi_plugin.persistence.crd.api import ResourceAPI
    from csi_plugin.persistence.crd.kinds import GROUP, VERSION
    from csi_plugin.persistence.crd.removal import carry_out, plan_removal

    try:
        api = ResourceAPI(GROUP, VERSION, namespace=namespace, kubeconfig=str(kubeconfig) if kubeconfig else None)
        removal = plan_removal(api, driver_name=driver, leaves_volumes=leave_volumes)
        for obstacle in removal.obstacles:
            complain(f"in the way: {obstacle}")
        if removal.obstacles:
            raise typer.Exit(1)
        if yes:
            for one in carry_out(api, removal.doomed):
                say(f"removed: {one.kind} {one.name}")
        else:
            for one in removal.doomed:
                say(f"would be removed: {one.kind} {one.name}")
        for text in removal.stays:
            say(f"stays: {text}")
        if not yes:
            say("nothing was changed; with --yes it is done")
    except (PersistenceError, InvalidPersistence) as error:
        complain(str(error))
        raise typer.Exit(1) from None
