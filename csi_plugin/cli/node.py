"""Commands for a node's pod."""

from csi_plugin.cli.output import say
from csi_plugin.cli.settings_source import SettingsOption, load_settings, readable_errors
from csi_plugin.persistence.base import InvalidPersistence, PersistenceError


def wait_for_detach(settings: SettingsOption = None) -> None:
    """Before a node's pod ends (its preStop hook): if the node is being drained, wait until no volume is staged.

    Kubelet unstages volumes through this pod. One that ends too early leaves them attached to a machine that goes down,
    and their pods wait six minutes for them elsewhere.
    """
    from csi_plugin.cli.drain import is_drained, wait_until_unstaged

    with readable_errors():
        loaded = load_settings(settings)
    where = loaded.persistence
    try:
        drained = is_drained(loaded.node_id, namespace=where.get("namespace"), kubeconfig=where.get("kubeconfig"))
    except (PersistenceError, InvalidPersistence) as error:
        # A hook that fails only delays the end of the pod.
        say(f"cannot tell whether the node is drained: {error}", err=True)
        return
    if drained:
        wait_until_unstaged(loaded.state_dir / "node" / "volumes")
