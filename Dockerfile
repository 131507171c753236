# The Cinderbox image, for controllers and nodes alike. Build arguments:
#
# BASE      any Debian or Ubuntu image with Python 3.11 to 3.13 in its package sources; pin it by digest
#           (docker.io/library/debian@sha256:...) where builds have to be repeatable. Python packages are: uv.lock.
# EXTRAS    parts of Cinderbox. "node crd" makes a smaller image that only nodes in Kubernetes can use.
# CLIENTS   Debian packages of the storage protocols that os-brick and Cinder's drivers use. Leave out what your storage
#           does not need: Ceph's are the largest.
# PIP_PACKAGES  Python packages of storage vendors, such as "py-pure-client>=1.89.0"; docs/backends/drivers.md has each
#           driver's. They may not change what Cinderbox itself runs with: uv.lock constrains them.
# DEB_PACKAGES  more Debian packages, such as "default-jre-headless" for a vendor's command line
# VERSION   for the labels
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BASE} AS uv
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir uv==0.13.9
WORKDIR /src
# Compiled here: at run time the root filesystem may be read-only, and Cinder loads in less than half the time.
ENV UV_PROJECT_ENVIRONMENT=/opt/cinderbox UV_PYTHON=/usr/bin/python3 UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy \
    UV_NO_CACHE=1 UV_SYSTEM_CERTS=1 UV_COMPILE_BYTECODE=1

# The dependencies alone, which change less often than pyproject.toml: with the same ones, their layer stays.
FROM uv AS dependencies
ARG EXTRAS="controller node mysql postgresql crd otel"
COPY pyproject.toml uv.lock ./
RUN /uv/bin/uv export --quiet --frozen --no-dev --no-emit-project --no-header $(printf -- '--extra %s ' $EXTRAS) \
        --output-file /dependencies.txt \
    && touch --date=@0 /dependencies.txt

FROM uv AS environment
COPY --from=dependencies /dependencies.txt /
RUN /uv/bin/uv venv --quiet "$UV_PROJECT_ENVIRONMENT" \
    && /uv/bin/uv pip sync --python "$UV_PROJECT_ENVIRONMENT" --require-hashes /dependencies.txt

FROM environment AS build
RUN touch /began
ARG EXTRAS="controller node mysql postgresql crd otel"
COPY pyproject.toml uv.lock README.md LICENSE hatch_build.py ./
COPY scripts/generate/protocol.py scripts/generate/
COPY proto proto
COPY csi_plugin csi_plugin
RUN /uv/bin/uv sync --frozen --no-dev --no-editable $(printf -- '--extra %s ' $EXTRAS) \
    && cp LICENSE /opt/cinderbox/ \
    # What is in it, in the form that scanners read; Debian's packages are in dpkg's own database.
    && /uv/bin/uv export --quiet --frozen --no-dev --preview-features sbom-export --format cyclonedx1.5 \
        $(printf -- '--extra %s ' $EXTRAS) --output-file /opt/cinderbox/sbom.cdx.json
ARG PIP_PACKAGES=""
RUN if [ -n "$PIP_PACKAGES" ]; then \
        /uv/bin/uv export --quiet --frozen --no-dev --no-emit-project --no-hashes $(printf -- '--extra %s ' $EXTRAS) \
            --output-file /tmp/constraints.txt \
        && /uv/bin/uv pip install --python /opt/cinderbox/bin/python --compile-bytecode \
            --constraint /tmp/constraints.txt $PIP_PACKAGES; \
    fi
# What has come on top of the dependencies: a new version of Cinderbox is a small layer over the same large one.
RUN mkdir /added \
    && cd / \
    && find opt/cinderbox -newerct "$(stat --format=%z /began)" ! -type d -print0 \
        | tar --create --null --files-from=- | tar --extract --directory=/added

FROM ${BASE}
ARG CLIENTS="lsscsi multipath-tools nfs-common nvme-cli open-iscsi sg3-utils lvm2 thin-provisioning-tools ceph-common python3-rados python3-rbd"
ARG DEB_PACKAGES=""
# Filesystems, encryption, and the clients of the storage protocols.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates python3 \
        btrfs-progs cryptsetup-bin e2fsprogs mount qemu-utils util-linux xfsprogs \
        $CLIENTS $DEB_PACKAGES \
    && rm -rf /var/lib/apt/lists/* \
    # Every node has names of its own; those of the image would be the same on all.
    && rm -f /etc/iscsi/initiatorname.iscsi /etc/nvme/hostid /etc/nvme/hostnqn \
    # For controllers that need no privileges: a name and a home for the user that the chart gives them.
    && groupadd --gid 65532 cinderbox \
    && useradd --uid 65532 --gid cinderbox --home-dir /var/lib/cinderbox --create-home --shell /usr/sbin/nologin cinderbox
COPY --from=environment /opt/cinderbox /opt/cinderbox
COPY --from=build /added/opt/cinderbox /opt/cinderbox
# Ceph's bindings are no Python packages: they come with the distribution's Python, which is the one used here.
RUN for module in /usr/lib/python3/dist-packages/rados*.so /usr/lib/python3/dist-packages/rbd*.so; do \
        if [ -e "$module" ]; then ln -s "$module" /opt/cinderbox/lib/python3.*/site-packages/; fi; \
    done
ENV PATH=/opt/cinderbox/bin:$PATH PYTHONDONTWRITEBYTECODE=1
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Cinderbox" \
      org.opencontainers.image.description="CSI driver that runs OpenStack Cinder's volume drivers in its own process" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# A CSI node mounts and attaches, so it runs as root; the chart runs controllers of remote storage as 65532.
ENTRYPOINT ["cinderbox"]
CMD ["serve"]
