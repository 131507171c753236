"""scripts/cluster_parts/private_folders: a cluster leaves nothing in the folders of the machine, whether they are there
before or not."""

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

SCRIPT = Path(__file__).parents[2] / "scripts/cluster_parts/private_folders"


def test_what_is_made_changed_or_removed_stays_in_the_namespace(tmp_path: Path) -> None:
    etc, lib, state = (tmp_path / name for name in ("etc", "lib", "state"))
    for folder in (etc / "ssl", lib, state):
        folder.mkdir(parents=True)
    (etc / "passwd").write_text("root")
    script = f"""
        cd {state}
        {SCRIPT} {etc} {lib}
        mkdir -p {etc}/cni/net.d {lib}/cni/results
        echo more >>{etc}/passwd
        rmdir {etc}/ssl
        cat {etc}/passwd
        ls {etc} {lib}
    """
    seen = subprocess.run(
        ["unshare", "--mount", "bash", "-euc", script], capture_output=True, text=True, check=True
    ).stdout
    assert "more" in seen
    assert seen.count("cni") == 2
    assert "ssl" not in seen
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if state not in path.parents) == [
        Path(name) for name in ("etc", "etc/passwd", "etc/ssl", "lib", "state")
    ]
    assert (etc / "passwd").read_text() == "root"
    subprocess.run(["rm", "-r", state], check=True)
