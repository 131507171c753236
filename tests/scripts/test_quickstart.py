"""README's first command."""

import subprocess

import pytest

from tests.support.project import PROJECT


@pytest.mark.root
def test_the_main_job_on_the_embedded_backend() -> None:
    done = subprocess.run([PROJECT / "scripts/quickstart"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Done: data written" in done.stdout
