"""Renders the chart into plain manifests, one file per template, and copies the monitoring files out of it.

`make manifests` writes them to deploy/kubernetes and deploy/monitoring; another directory can be named.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/cinderbox"
HELM = ROOT / ".tools/kubernetes/bin/helm"
MONITORING = ("alerts.yaml", "dashboard.json")

_HEAD = "# Rendered from deploy/helm/cinderbox with values.yaml by `make manifests`: change those, not this.\n"
_SOURCE = re.compile(r"^# Source: cinderbox/templates/(\S+)\n", re.MULTILINE)
# What only Helm reads.
_HELMS_OWN = re.compile(
    r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by|helm\.sh/resource-policy):.*\n", re.MULTILINE
)
_NO_ANNOTATIONS = re.compile(r"^ +annotations:\n(?=  labels:|spec:)", re.MULTILINE)


def main(directory: Path) -> None:
    values = ROOT / "deploy/kubernetes/values.yaml"
    command = [HELM, "template", "cinderbox", CHART, "--namespace", "cinderbox", "-f", values, "--skip-tests"]
    rendered = subprocess.run([*command, "--kube-version", "1.37"], check=True, capture_output=True, text=True).stdout
    files: dict[str, list[str]] = {}
    for document in re.split(r"^---\n", rendered, flags=re.MULTILINE):
        if source := _SOURCE.search(document):
            files.setdefault(source[1], []).append(_without_helm(document.replace(source[0], "")))
    (directory / "kubernetes").mkdir(parents=True, exist_ok=True)
    for name, documents in files.items():
        (directory / "kubernetes" / name).write_text(_HEAD + "".join(f"---\n{text}" for text in documents))
    (directory / "monitoring").mkdir(exist_ok=True)
    for name in MONITORING:
        (directory / "monitoring" / name).write_text((CHART / "files" / name).read_text())


def _without_helm(document: str) -> str:
    return _NO_ANNOTATIONS.sub("", _HELMS_OWN.sub("", document))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "deploy")
