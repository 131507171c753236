"""Tests inside the storage lab's guest: `make storage-lab`, or `scripts/storage_lab test`, runs them there."""

import os

# They need kernel modules, targets and disks that only the guest has.
collect_ignore_glob = [] if os.environ.get("CINDERBOX_STORAGE_LAB") else ["test_*.py"]
