# One image for every role: the command says which, e.g. `neverstale run watcher`.
ARG PYTHON=3.11.13-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/neverstale
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY neverstale neverstale
COPY streams streams
COPY consumers consumers
COPY api api
COPY ops ops
RUN /opt/neverstale/bin/pip install --quiet --constraint constraints.txt .

FROM python:${PYTHON}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin neverstale
COPY --from=build /opt/neverstale /opt/neverstale
ENV PATH=/opt/neverstale/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /etc/neverstale
COPY catalog.toml .
USER 10001
# The API's port; the others serve /readyz and /metrics on the port of their settings.
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["neverstale", "--help"]
