"""``cinderbox drivers``: what can be a backend."""

from typing import Annotated, Any

import typer

from csi_plugin.cli.output import Output, OutputOption, complain, show


def drivers(
    name: Annotated[str | None, typer.Argument(help="A driver's class path or class name: show its options.")] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cinder's volume drivers, or the options of one."""
    if name is None:
        rows = [
            {
                "name": driver["class_name"],
                "driver": driver["class_fqn"],
                "version": driver["version"],
                "supported": "yes" if driver["supported"] else "no",
            }
            for driver in _all()
        ]
        show(rows, output, empty="no drivers")
        return
    options = [_describe(option) for option in _find(name)["driver_options"]]
    show(sorted(options, key=lambda option: str(option["option"])), output, empty=f"{name} has no options")


def _all() -> list[dict[str, Any]]:
    from csi_plugin.storage.cinder.driver_catalogue import all_drivers

    return all_drivers()


def _find(name: str) -> dict[str, Any]:
    from csi_plugin.server.driver_names import full_driver_name

    path = full_driver_name(name)
    found = next((driver for driver in _all() if driver["class_fqn"] == path), None)
    if found is None:
        complain(f"no driver is named {name}; `cinderbox drivers` lists them")
        raise typer.Exit(1)
    return found


def _describe(option: dict[str, Any]) -> dict[str, Any]:
    return {
        "option": option["name"],
        "type": str(option["type"]["type_class"]),
        "default": "***" if option.get("secret") and option["default"] else option["default"],
        "description": " ".join(str(option["help"] or "").split()),
    }
