"""Writes what Kubernetes' storage suite has to know of the driver, from the chart's values: definition.py VALUES...

A later file's keys replace those of an earlier one. The suite reads it as driverDefinition of its
test/e2e/storage/external, and ignores unknown fields without a word.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

Values = dict[str, Any]
FILESYSTEM = "csi.storage.k8s.io/fstype"
CLASSES_OF_THE_SUITE = "upstream-e2e"
"""Name of what classes.yaml has."""


def main(*files: str) -> None:
    values: Values = {}
    for file in files:
        values.update(yaml.safe_load(Path(file).read_text()))
    print(yaml.safe_dump(definition(values), sort_keys=False), end="")


def definition(values: Values) -> dict[str, Any]:
    topology = list((values.get("node") or {}).get("topology") or {})
    snapshot_classes = [one["name"] for one in values["volumeSnapshotClasses"]]
    return {
        "StorageClass": {"FromExistingClassName": storage_class(values)},
        "VolumeAttributesClass": {"FromExistingClassName": CLASSES_OF_THE_SUITE},
        **({"SnapshotClass": {"FromExistingClassName": snapshot_classes[0]}} if snapshot_classes else {}),
        "GroupSnapshotClass": {"FromExistingClassName": CLASSES_OF_THE_SUITE},
        "DriverInfo": {
            "Name": values["driverName"],
            "SupportedSizeRange": {"Min": "1Gi", "Max": "16Gi"},
            # "" stands for the class's own.
            "SupportedFsType": {"": {}, "ext4": {}, "xfs": {}},
            "SupportedMountOption": {"noatime": {}},
            **({"TopologyKeys": topology} if topology else {}),
            "Capabilities": {
                "persistence": True,
                "block": True,
                "fsGroup": True,
                "exec": True,
                "multipods": True,
                "singleNodeVolume": False,
                # Two nodes of scripts/cluster have one kernel, so a volume can't be on both.
                "RWX": False,
                "capReadOnlyMany": True,
                "readWriteOncePod": True,
                "multiplePVsSameID": True,
                "controllerExpansion": True,
                "nodeExpansion": True,
                "offlineExpansion": True,
                "onlineExpansion": True,
                "pvcDataSource": True,
                "snapshotDataSource": bool(snapshot_classes),
                "groupSnapshot": bool(snapshot_classes),
                "capacity": True,
                "topology": bool(topology),
            },
        },
    }


def storage_class(values: Values) -> str:
    """Of xfs if there is one: online growth of ext4 takes CAP_SYS_RESOURCE, which not every machine gives to root."""
    classes: list[Values] = values["storageClasses"]
    if not classes:
        raise SystemExit("storageClasses: the values have none, and the suite takes its volumes from one")
    xfs = [one for one in classes if one.get("parameters", {}).get(FILESYSTEM) == "xfs"]
    return str((xfs or classes)[0]["name"])


if __name__ == "__main__":
    main(*sys.argv[1:])
