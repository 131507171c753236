"""The ``cinderbox`` command."""

import logging
import sys
from typing import Any

import typer

from csi_plugin.cli import metadata, node, snapshots, volumes
from csi_plugin.cli.config import config
from csi_plugin.cli.doctor import doctor
from csi_plugin.cli.drivers import drivers
from csi_plugin.cli.nodes import nodes
from csi_plugin.cli.operations import operations
from csi_plugin.cli.settings_source import SettingsOption, load_settings, readable_errors
from csi_plugin.cli.uninstall import uninstall

app = typer.Typer(
    name="cinderbox",
    help="A CSI driver that runs OpenStack Cinder's volume drivers, without OpenStack.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def quiet(context: typer.Context) -> None:
    """Commands for humans say what is wrong by themselves; only the server logs."""
    if context.invoked_subcommand != "serve":
        logging.getLogger("csi_plugin").setLevel(logging.CRITICAL)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def serve(
    context: typer.Context,
    settings: SettingsOption = None,
) -> None:
    """Serve CSI. Every setting is a flag too (--endpoint, --mode, --node-id ...); see `cinderbox settings`."""
    from csi_plugin.server.serve import serve as run

    with readable_errors():
        flags = _flags(context.args)
    sys.exit(run(load_settings(settings, flags, serves=True)))


app.command()(drivers)
app.command()(config)
app.command()(doctor)
app.command()(operations)
app.command()(nodes)
app.add_typer(volumes.app, name="volumes")
app.add_typer(snapshots.app, name="snapshots")
app.command()(metadata.migrate)
app.command("import-ember-csi")(metadata.import_ember_csi)
app.command("generate-key")(metadata.generate_key)
app.command("ensure-sealing-keys")(metadata.ensure_sealing_keys)
app.command()(metadata.reseal)
app.command()(uninstall)
app.command("wait-for-detach")(node.wait_for_detach)


@app.command()
def settings() -> None:
    """Print the reference of all settings, as Markdown."""
    from csi_plugin.cli.settings_reference import settings_reference

    print(settings_reference(), end="")


@app.command()
def version() -> None:
    """Print the version."""
    from csi_plugin.server.identity import own_version

    typer.echo(own_version())


def _flags(arguments: list[str]) -> dict[str, Any]:
    """--some-setting value, --some-setting=value, and --flag alone for true; values as in the environment."""
    from csi_plugin.server.settings import SettingsError, parse_text

    values: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise SettingsError(f"unexpected argument {word!r}")
        name, separator, text = word.removeprefix("--").partition("=")
        if not separator:
            text = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        name = name.replace("-", "_")
        values[name] = parse_text(name, text, source=f"flag --{name.replace('_', '-')}")
    return values
