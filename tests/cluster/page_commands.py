"""Commands of the pages, run in the cluster as they are printed."""

import os
from pathlib import Path

from tests.cluster.cluster import NAMESPACE, Cluster
from tests.support.project import PROJECT


def follow(script: str, folder: Path = PROJECT) -> str:
    """What a block prints, run in a folder, with the programs that it names."""
    path = f"PATH={PROJECT}/.venv/bin:{PROJECT}/.tools/kubernetes/bin:{os.environ['PATH']}"
    return Cluster(NAMESPACE).run("enter", "env", "-C", str(folder), path, "bash", "-euc", script, timeout=300)
