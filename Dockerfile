# The Cinderbox image, for controllers and nodes alike. BASE is any Debian or Ubuntu image with Python 3.11 to 3.13 in
# its package sources. EXTRAS: "node" alone makes the smaller image that nodes need.
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS build
ARG EXTRAS="controller node mysql postgresql crd"
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir uv==0.13.9
WORKDIR /src
ENV UV_PROJECT_ENVIRONMENT=/opt/cinderbox UV_PYTHON=/usr/bin/python3 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy \
    UV_NO_CACHE=1 UV_SYSTEM_CERTS=1
# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock ./
RUN /uv/bin/uv sync --frozen --no-dev --no-install-project $(printf -- '--extra %s ' $EXTRAS)
COPY README.md LICENSE hatch_build.py ./
COPY scripts/generate_protocol.py scripts/
COPY proto proto
COPY csi_plugin csi_plugin
RUN /uv/bin/uv sync --frozen --no-dev --no-editable $(printf -- '--extra %s ' $EXTRAS)

FROM ${BASE}
# Filesystems, encryption, and the clients of the storage protocols that os-brick drives.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates python3 \
        btrfs-progs cryptsetup-bin e2fsprogs mount qemu-utils util-linux xfsprogs \
        lsscsi multipath-tools nfs-common nvme-cli open-iscsi sg3-utils \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/cinderbox /opt/cinderbox
ENV PATH=/opt/cinderbox/bin:$PATH
# A CSI node mounts and attaches, so it runs as root; a controller of remote arrays may be given another user.
ENTRYPOINT ["cinderbox"]
CMD ["serve"]
