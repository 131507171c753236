"""``cinderbox doctor``: whether a host can have volumes attached, before one is."""

from pathlib import Path
from typing import Annotated

import typer

from csi_plugin.cli.output import say
from csi_plugin.cli.settings_source import SettingsOption, load_settings


def doctor(
    settings: SettingsOption = None,
    root: Annotated[
        Path | None, typer.Option(help="Where the host's files are; found by itself where the host can be seen.")
    ] = None,
) -> None:
    """Say what the configuration of this host lacks for volumes: LVM's, multipathd's, mdadm's and iscsid's.

    Nothing is changed. Ends with status 1 where something is lacking.
    """
    from csi_plugin.node import host_check, host_programs

    loaded = load_settings(settings)
    found = root or host_programs.host_root()
    if found is None:
        say(
            "the host's files cannot be seen from this container: give the node the host's process ids (chart: "
            "node.hostPID), or run this on the host",
            err=True,
        )
        raise typer.Exit(1)
    lacking = list(host_check.lacks(found, multipath=loaded.request_multipath))
    for text in lacking:
        say(text)
    versions = host_programs.versions("iscsiadm")
    say(f"iscsiadm: {versions.own}; the host's: {versions.host}")
    if lacking:
        raise typer.Exit(1)
    say("nothing is lacking")
