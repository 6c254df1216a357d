# One image for every role: the command says which, e.g. `neverstale run watcher`.
ARG PYTHON=3.13.11-slim-bookworm
ARG VERSION=0.1.0

# What we depend on, in layers of its own: a change of our sources downloads and installs none of it again.
FROM python:${PYTHON} AS dependencies
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/neverstale
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; read = tomllib.load(open('pyproject.toml', 'rb')); \
open('build.txt', 'w').write('\n'.join(read['build-system']['requires'])); \
open('run.txt', 'w').write('\n'.join(read['project']['dependencies']))" \
    && pip install --quiet --constraint constraints.txt --requirement build.txt \
    && pip --python /opt/neverstale/bin/python install --quiet --constraint constraints.txt --requirement run.txt

# Ours. It needs no package index.
FROM dependencies AS build
COPY README.md LICENSE catalog.toml ./
COPY neverstale neverstale
COPY streams streams
COPY consumers consumers
COPY api api
COPY ops ops
RUN pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir dist .
RUN pip --python /opt/neverstale/bin/python install --quiet --no-index --no-deps --no-warn-script-location --root /built dist/*.whl
# What is in the image: CycloneDX, of the environment as it will be.
RUN cp -r /built/opt/neverstale/. /opt/neverstale/ \
    && mkdir -p /built/opt/neverstale/share \
    && /opt/neverstale/bin/python -m neverstale.ops.sbom > /built/opt/neverstale/share/neverstale.cdx.json

FROM python:${PYTHON}
ARG PYTHON
ARG VERSION
LABEL org.opencontainers.image.title="neverstale" \
    org.opencontainers.image.description="A MongoDB read cache that knows how fresh it is." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="docker.io/library/python:${PYTHON}" \
    neverstale.sbom="/opt/neverstale/share/neverstale.cdx.json"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin neverstale
ENV PATH=/opt/neverstale/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=dependencies /opt/neverstale /opt/neverstale
COPY --from=build /built/opt/neverstale /opt/neverstale
WORKDIR /etc/neverstale
COPY catalog.toml .
USER 10001
# The API's port; the others serve /readyz and /metrics on the port of their settings.
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["neverstale", "--help"]
