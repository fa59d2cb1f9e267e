# texture-zoo in a container: the command `zoo`, and by default `zoo serve`.
#
#   docker build -t texture-zoo .
#   docker run --rm -v zoo-home:/data texture-zoo serve --new-key me     # prints a key, once
#   docker run --rm -p 127.0.0.1:8080:8080 -v zoo-home:/data texture-zoo
#   docker run --rm -v zoo-home:/data -v "$PWD/planks:/pictures:ro" texture-zoo score wood /pictures
#
# As another user, on a root that cannot be written; /data and /tmp are all that it writes:
#
#   docker run --rm --user 1234 --read-only --tmpfs /tmp --cap-drop ALL \
#     --security-opt no-new-privileges -p 127.0.0.1:8080:8080 -v zoo-home:/data texture-zoo
#
# For a GPU, which `--device cuda` then uses (the default wheels of torch on PyPI have CUDA):
#
#   docker build -t texture-zoo:gpu --build-arg TORCH_INDEX=https://pypi.org/simple .
#   docker run --rm --gpus all -v zoo-home:/data -p 127.0.0.1:8080:8080 texture-zoo:gpu \
#     serve --host 0.0.0.0 --device cuda
#
# compose.yaml has it beside MLflow and MinIO. This file was never built where the project is
# developed, which has no Docker: tests/test_container.py checks it and runs its commands without.

ARG BASE=python:3.11.14-slim-bookworm@sha256:65a93d69fa75478d554f4ad27c85c1e69fa184956261b4301ebaf6dbb0a3543d

FROM ${BASE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt requirements-image.lock ./
# All but torch by hashes, and from wheels, so that nothing is compiled. The pip of the base installs
# into an environment that has none.
RUN python -m venv --without-pip /opt/zoo \
    && python -m pip --python /opt/zoo/bin/python install --no-deps --require-hashes \
    --only-binary :all: -r requirements-image.lock
# torch has builds for each kind of machine, so it is pinned by version only.
RUN python -m pip --python /opt/zoo/bin/python install --index-url "$TORCH_INDEX" \
    --only-binary :all: "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY registry registry
COPY search_spaces search_spaces
COPY zoo zoo
RUN python -m pip --python /opt/zoo/bin/python install --no-deps --no-build-isolation .

FROM ${BASE}
LABEL org.opencontainers.image.title="texture-zoo" \
      org.opencontainers.image.description="Anomaly detectors for textures: search, shelf, service" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /opt/zoo /opt/zoo
# Whoever runs it with `--user` is of group 0, as on OpenShift, so this group may write the home.
RUN install -d -o 10001 -g 0 -m 2775 /data
ENV PATH=/opt/zoo/bin:$PATH \
    HOME=/data \
    USER=zoo \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ZOO_HOME=/data
WORKDIR /data
VOLUME ["/data"]
USER 10001:0
EXPOSE 8080
# A proxy of the environment must not be asked for the machine itself.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import ProxyHandler, build_opener; build_opener(ProxyHandler({})).open('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["zoo"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
