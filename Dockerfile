# The image of every process of sre-domain: docker build --tag registry.example/sre-domain:0.1.0 .
# Base: Docker's official python:3.13.15-slim-trixie, the digest of its index for all platforms. Change both lines and the tag together.
FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /src
COPY requirements.lock requirements-dev.lock pyproject.toml README.md ./
COPY k8s/install.sh k8s/
COPY schemas schemas
COPY sql sql
COPY worker worker
RUN sh k8s/install.sh /opt/sre-domain

FROM python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
COPY --from=build /opt/sre-domain /opt/sre-domain
ENV PATH=/opt/sre-domain/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SRE_HEALTH_ADDRESS=:8080
# No account of that number is needed: nothing of ours looks for its name or its home.
USER 10001:10001
EXPOSE 8080
# For engines that look at it; Kubernetes has its own probes. The worker's and the relay's: other commands end by themselves.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/livez', timeout=4)"]
ENTRYPOINT ["sre-domain"]
CMD ["worker"]
