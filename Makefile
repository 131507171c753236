.PHONY: cluster-up cluster-down test-cluster test-ipv6 upstream-e2e storage-lab setup quickstart check test failover soak test-wheel coverage lint bench proto crds docs manifests clean

# Everything that the other targets need. Safe to repeat; the first time needs root, for Debian packages.
setup:
	scripts/setup

# The main job on the embedded backend, visibly.
quickstart:
	scripts/setup quickstart
	scripts/quickstart

# With STORAGE_LAB=1 also the shortest tests of the storage lab, one for each protocol, and with UPSTREAM_E2E=1 what says
# most of Kubernetes' own storage suite (each below 10 minutes). The scripts' own variables have no CINDERBOX_ prefix: all
# that begin so are settings of the server, which tests start.
test:
	scripts/setup begin
	scripts/checks/beside scripts/test
	$(if $(STORAGE_LAB),scripts/storage_lab test -k "guest or raw_block and (iscsi or nvme or nfs or rbd)")
	$(if $(UPSTREAM_E2E),scripts/upstream_e2e run)

# An active controller and a standby on PostgreSQL under 64 clients, the active one killed or frozen 40 times (20 minutes).
failover:
	scripts/setup
	FAILOVERS=40 scripts/test tests/crash/test_failover.py

# 20,000 random operations in one process, which must not grow (15 minutes).
soak:
	scripts/setup
	SOAK_OPERATIONS=20000 scripts/test tests/crash/test_soak.py

# The library from its wheel, in a virtual environment on each Python (5 minutes).
test-wheel:
	scripts/setup
	WHEEL_PYTHONS="3.11 3.12 3.13" scripts/test tests/library/test_wheel.py

# All tests, and which lines of our code they ran; it takes half as long again.
coverage:
	scripts/setup
	COVERAGE=1 scripts/test

# In four minutes: lint, and the tests that need neither root nor Kubernetes.
check:
	scripts/check

lint:
	scripts/lint

bench:
	scripts/bench

# A whole Kubernetes on this machine, to try things on; `scripts/cluster kubectl get nodes`.
cluster-up:
	scripts/setup quickstart
	scripts/cluster up

cluster-down:
	scripts/cluster down

# Tests in that cluster, which stays up.
test-cluster: cluster-up
	KEEP_CLUSTER=1 scripts/test tests/cluster

# A cluster that has IPv6 alone comes up and serves a claim (2 minutes).
test-ipv6:
	scripts/setup begin
	CLUSTER_FAMILY=ipv6 scripts/test tests/cluster/test_ipv6.py

# What says most of Kubernetes' own storage suite, on the chart in a cluster of its own.
upstream-e2e:
	scripts/setup quickstart
	scripts/upstream_e2e run

# Tests with real iSCSI, NVMe over TCP, NFS and Ceph, in a virtual machine made for them.
storage-lab:
	scripts/storage_lab test

# Python modules and type stubs of the wire protocol.
proto:
	.venv/bin/python scripts/generate/protocol.py

# Definitions of the custom resources, from the record types.
crds:
	.venv/bin/python scripts/generate/custom_resources.py

# Generated reference pages.
docs:
	scripts/docs

# Plain manifests, from the chart.
manifests:
	scripts/dependencies/kubernetes
	.venv/bin/python scripts/generate/manifests.py

clean:
	rm -rf .venv .tools build dist htmlcov .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		.import_linter_cache csi_plugin/protocol/*_pb2*.py csi_plugin/protocol/*_pb2*.pyi
	find csi_plugin tests scripts -name __pycache__ -prune -exec rm -rf {} +
