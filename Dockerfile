# The engine as a container: built in one stage, run in another as a user without rights.
FROM python:3.13-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/tickring
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY pyproject.toml README.md LICENSE ./
COPY shm shm
COPY engine engine
COPY config config
COPY workers workers
RUN /opt/tickring/bin/pip install .

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/tickring tickring \
    && install -d -o tickring -g tickring -m 0700 /var/lib/tickring /var/cache/tickring
COPY --from=build /opt/tickring /opt/tickring
ENV PATH=/opt/tickring/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TICKRING_CACHE_DIR=/var/cache/tickring
WORKDIR /var/lib/tickring
USER tickring
EXPOSE 9464
STOPSIGNAL SIGTERM
ENTRYPOINT ["tickring"]
CMD ["run"]
