"""The backends of a cinder.conf as YAML, each with the arguments that Backend takes."""

from pathlib import Path
from typing import Any

import yaml
from oslo_config import cfg

from csi_plugin.storage.cinder.driver_classes import driver_path
from csi_plugin.storage.cinder.option_definitions import definitions_of


def convert(cinder_source: str, yaml_dest: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """``{"backends": [...]}`` of the sections that ``enabled_backends`` names; written to ``yaml_dest`` as well.

    A backend without a ``volume_backend_name`` has its section's. Raises ValueError for a driver that is not there, a
    value that its option does not take and a section that is missing.
    """
    sections: dict[str, dict[str, list[str]]] = {}
    cfg.ConfigParser(cinder_source, sections).parse()
    enabled = cfg.types.List()(sections.get("DEFAULT", {}).get("enabled_backends", [""])[-1])
    result = {"backends": [_backend(name, sections) for name in enabled]}
    if yaml_dest:
        Path(yaml_dest).write_text(yaml.safe_dump(result, default_flow_style=False))
    return result


def _backend(name: str, sections: dict[str, dict[str, list[str]]]) -> dict[str, Any]:
    if name not in sections:
        raise ValueError(f"enabled_backends names {name}, which has no section")
    written = {**sections.get("backend_defaults", {}), **sections[name]}
    definitions = definitions_of(driver_path({key: values[-1] for key, values in written.items()}))
    options = {key: _value(key, values, definitions.get(key)) for key, values in written.items()}
    return {"volume_backend_name": name, **options}


def _value(key: str, values: list[str], definition: cfg.Opt | None) -> Any:
    """As its type has it, where YAML has that too; a secret's text is never quoted."""
    if definition is None:
        return values[-1]
    try:
        parsed = [definition.type(value) for value in values]
    except (ValueError, TypeError) as error:
        reason = "" if definition.secret else f": {error}"
        raise ValueError(f"option {key} is not a valid {definition.type}{reason}") from None
    plain = [value if isinstance(value, bool | int | float | str | list | dict) else str(value) for value in parsed]
    return plain if definition.multi else plain[-1]
