# Build:  docker build -t flowmap .
# Read the connections of the host from the conntrack table (needs the host's network and one capability):
#   docker run --network host --cap-drop ALL --cap-add NET_ADMIN --user 0 --read-only \
#       -v /etc/flowmap:/etc/flowmap:ro flowmap
# Without --cap-add and --user it reads the socket table instead, which needs no privilege.
# Container, unit and process of each connection need more to read, and no capability:
#       --pid host -v /sys/fs/cgroup:/host/sys/fs/cgroup:ro

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY flowmap flowmap
RUN python -m venv /opt/flowmap \
    && /opt/flowmap/bin/pip install --no-cache-dir --disable-pip-version-check '.[fleet]' \
    && /opt/flowmap/bin/python -m compileall -q /opt/flowmap/lib \
    && /opt/flowmap/bin/pip uninstall -q -y pip

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="flowmap" \
    org.opencontainers.image.description="Which Flink job is behind this network connection?" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/flowmap /opt/flowmap
ENV PATH=/opt/flowmap/bin:$PATH PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 10817
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["flowmap", "health", "-c", "/etc/flowmap/flowmap.yaml"]
ENTRYPOINT ["flowmap"]
CMD ["run", "-c", "/etc/flowmap/flowmap.yaml"]
