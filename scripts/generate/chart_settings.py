"""Writes what `settings` and `node.settings` may have into the chart's schema, from the program's own settings.

Without an argument it is written in place; with `-` the whole schema is printed.
"""

import json
import sys
from pathlib import Path
from typing import Any

from csi_plugin.server.settings import Settings

SCHEMA = Path(__file__).parents[2] / "deploy/helm/cinderbox/values.schema.json"

# What the chart sets itself, in the environment, which counts more than the file that the values become.
OF_BOTH = (
    *("endpoint", "mode", "driver_name", "cluster_name", "node_id", "host", "state_dir", "persistence", "backends"),
    *("sealing_keys_file", "http_address", "registration_dir", "kubelet_endpoint"),
    *("log_level", "log_format", "stop_seconds"),
)
OF_NODES = ("max_volumes", "local_folders", "file_locks_path")
_KEPT = ("type", "anyOf", "enum", "const", "items", "additionalProperties", "minimum", "exclusiveMinimum", "pattern")


def main() -> None:
    schema = json.loads(SCHEMA.read_text())
    schema["$defs"]["settings"] = settings_schema(OF_BOTH)
    schema["$defs"]["nodeSettings"] = settings_schema(OF_BOTH + OF_NODES)
    schema["properties"]["node"]["properties"]["settings"] = {"$ref": "#/$defs/nodeSettings"}
    text = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    if sys.argv[1:] == ["-"]:
        print(text, end="")
    else:
        SCHEMA.write_text(text)


def settings_schema(of_chart: tuple[str, ...]) -> dict[str, Any]:
    properties = Settings.model_json_schema()["properties"]
    allowed = {name: False if name in of_chart else _plain(kind) for name, kind in properties.items()}
    return {"type": "object", "properties": allowed | {"debug": {"type": "boolean"}}, "additionalProperties": False}


def _plain(kind: Any) -> Any:
    """A type without what only people read."""
    if isinstance(kind, list):
        return [_plain(each) for each in kind]
    if not isinstance(kind, dict):
        return kind
    return {name: kind[name] if name == "enum" else _plain(kind[name]) for name in _KEPT if name in kind}


if __name__ == "__main__":
    main()
