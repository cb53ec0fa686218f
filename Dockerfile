# The images of Spanyard, one target each:
#   docker build --target sidecar -t registry.example.com/spanyard/sidecar:0.1.0 .
# Targets: sidecar operator gateway ingester server python. Dependencies are locked with hashes, in layers
# of their own: a change of our code rebuilds the last layer only. The build needs no compiler.
# For a build that can be repeated, name the base by its digest: --build-arg PYTHON_IMAGE=…@sha256:….
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

# --- tools: in no image ------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS tools
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/images-build.lock /tools.lock
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install -q --require-hashes --only-binary :all: -r /tools.lock
ENV COMPILE="python3 -m compileall -q --invalidation-mode unchecked-hash /opt/spanyard/lib"

# --- our own code, the same for all ------------------------------------------------------------
FROM tools AS ours
ENV SOURCE_DATE_EPOCH=1767225600
RUN python3 -m venv --without-pip /opt/spanyard
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY crds crds
COPY core core
COPY sdk sdk
COPY sidecar sidecar
COPY ingester ingester
COPY gateway gateway
COPY operator operator
COPY local local
RUN /opt/tools/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /opt/tools/bin/pip --python /opt/spanyard/bin/python install -q --no-deps --no-compile \
        /wheel/*.whl \
    && $COMPILE

# --- what our code needs, by image: the locked packages, without pip ----------------------------
FROM tools AS packages
ENV INSTALL="/opt/tools/bin/pip --python /opt/spanyard/bin/python install -q --no-compile --no-deps \
--require-hashes --only-binary :all: -r /opt/spanyard/requirements.lock"
RUN python3 -m venv --without-pip /opt/spanyard

FROM packages AS sidecar-packages
COPY requirements/images-sidecar.lock /opt/spanyard/requirements.lock
RUN $INSTALL && $COMPILE

FROM packages AS operator-packages
COPY requirements/images-operator.lock /opt/spanyard/requirements.lock
RUN $INSTALL && $COMPILE

FROM packages AS server-packages
COPY requirements/images-server.lock /opt/spanyard/requirements.lock
RUN $INSTALL && $COMPILE

# --- a name for the number, as ssh refuses to run for a user that has none ----------------------
FROM ${PYTHON_IMAGE} AS named
RUN echo 'spanyard:x:65532:65532:Spanyard:/tmp:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'spanyard:x:65532:' >> /etc/group

# --- what every image is made of ---------------------------------------------------------------
FROM named AS base
LABEL org.opencontainers.image.title="Spanyard" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.vendor="Spanyard" \
      org.opencontainers.image.description="Run agent servers on Kubernetes and keep everything they say"
# The programs live in an environment without pip: nothing is ever installed into an image that runs.
ENV PATH=/opt/spanyard/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /tmp

# --- sidecar: the collector; fetch and publish of builds, which need git -----------------------
FROM base AS sidecar
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        ca-certificates git openssh-client >/dev/null \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
COPY --from=sidecar-packages /opt/spanyard /opt/spanyard
COPY --from=ours /opt/spanyard /opt/spanyard
USER 65532:65532
ENTRYPOINT ["spanyard-sidecar"]

# --- operator ----------------------------------------------------------------------------------
FROM base AS operator
COPY --from=operator-packages /opt/spanyard /opt/spanyard
COPY --from=ours /opt/spanyard /opt/spanyard
USER 65532:65532
ENTRYPOINT ["spanyard-operator"]

# --- ingester, gateway, server: the same layers, as the ClickHouse engine weighs most ----------
# A node that runs all three pulls them once.
FROM base AS engine
COPY --from=server-packages /opt/spanyard /opt/spanyard
COPY --from=ours /opt/spanyard /opt/spanyard
USER 65532:65532

FROM engine AS ingester
ENTRYPOINT ["spanyard-ingester"]

FROM engine AS gateway
ENTRYPOINT ["spanyard-gateway"]

# Everything in one pod, for evaluation.
FROM engine AS server
ENTRYPOINT ["spanyard-server"]

# --- python: what agents in Python are built with and run in, where a spec names no image -------
# pip for the build, and the SDK, so that `import spanyard` needs no index.
FROM named AS python
RUN python3 -m venv /opt/python
COPY requirements/images-sidecar.lock /opt/python/requirements.lock
COPY --from=ours /wheel /opt/python/wheel
RUN grep -A 200 '^msgspec==' /opt/python/requirements.lock | awk 'NR > 1 && /^[a-z]/ {exit} {print}' \
        > /opt/python/sdk.lock \
    && /opt/python/bin/pip install -q --no-cache-dir --disable-pip-version-check --no-deps \
        --require-hashes --only-binary :all: -r /opt/python/sdk.lock \
    && /opt/python/bin/pip install -q --no-cache-dir --disable-pip-version-check --no-deps \
        /opt/python/wheel/*.whl \
    && rm -r /opt/python/wheel /opt/python/*.lock
ENV PATH=/opt/python/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp
WORKDIR /tmp
USER 65532:65532
CMD ["python3"]
