# hotseat alone, on its embedded ledger: docker build -t hotseat . && docker run -p 8080:8080 -v hotseat:/var/lib/hotseat hotseat
# Three nodes on PostgreSQL and Redis: docker-compose.yml. tests/it/packaging.rs keeps both true.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin hotseat && cp target/release/hotseat /usr/local/bin/hotseat

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/hotseat hotseat
# The authorities that rediss:// and a ledger with sslmode=verify-full are judged by, and openssl for certificates.sh.
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates openssl && rm -rf /var/lib/apt/lists/*
# Where a node's certificate is mounted; whoever makes one there owns the volume.
RUN install --directory --owner=hotseat --group=hotseat /etc/hotseat/certificates /etc/hotseat/certificates/authority
COPY scripts/certificates.sh /usr/local/bin/certificates.sh
COPY --from=build /usr/local/bin/hotseat /usr/local/bin/hotseat
USER 10001
# The public API is for other machines; health, metrics and administration stay inside the container.
ENV HOTSEAT_NODE_DATA=/var/lib/hotseat HOTSEAT_SERVER_LISTEN=0.0.0.0:8080 HOTSEAT_SERVER_OPS_LISTEN=127.0.0.1:8081
VOLUME /var/lib/hotseat
EXPOSE 8080
# The image has no curl, and bash can do it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8081 && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.1 200' <&3"]
ENTRYPOINT ["hotseat"]
CMD ["serve"]
