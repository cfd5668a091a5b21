# One image for every process of the hub: `serve`, `work` and the other commands.

FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/synchub

# The dependencies first: they change rarely, so this layer is nearly always found in the cache.
COPY requirements-image.lock ./
RUN /opt/synchub/bin/python -m pip install --no-cache-dir --require-hashes --requirement requirements-image.lock

COPY pyproject.toml README.md LICENSE ./
COPY synchub ./synchub
COPY connectors ./connectors
COPY workers ./workers
# Build tools go again: an intruder should find no installer.
RUN /opt/synchub/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/synchub/bin/python -m pip uninstall --yes setuptools pip


FROM python:3.11-slim
RUN python -m pip uninstall --yes setuptools wheel pip \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/synchub synchub

COPY --from=build /opt/synchub /opt/synchub
COPY config /etc/synchub
# What the hub keeps outside the store; mount a volume here.
WORKDIR /var/lib/synchub

# Logs appear at once, and nothing is written beside the code.
ENV PATH=/opt/synchub/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SYNCHUB_CONFIG=/etc/synchub/synchub.toml

USER synchub
EXPOSE 8080
# The api's own probe: does its event loop turn? A worker overrides it, it serves no HTTP.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
ENTRYPOINT ["synchub"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]
