# The image holds one static program, and next to nothing else: no shell, no packages, no C library. It writes nothing to
# disk, so it runs with a read-only root file system and as any user. `make image` builds it; docs/image.md says more.

FROM docker.io/library/rust:1.95-trixie AS build
# Puts the list of crates into the program, where scanners find it. It runs for a second, hence --debug.
RUN cargo install --debug --locked cargo-auditable@0.7.7
WORKDIR /build
COPY . .
# With --target, the flags are those of the program alone: a static build script or macro could not be loaded.
# Where the crates lie differs with the registry that they came from, so the program shall not tell.
RUN set -eu; \
    target=$(rustc -vV | sed -n 's/^host: //p'); \
    cargo fetch --locked --target "$target"; \
    crates=$(echo "$CARGO_HOME"/registry/src/*); \
    export CFLAGS="-ffile-prefix-map=$crates=crates"; \
    export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$crates=crates --remap-path-prefix=$PWD=."; \
    cargo auditable build --offline --locked --release --target "$target" -p entrada --bin entrada; \
    install -D "target/$target/release/entrada" /image/usr/local/bin/entrada
# The order in which names are looked up is said, not left to a default. The rest is for scanners: the static program
# holds code of Debian's C library, and they shall know of which version.
ARG SOURCE_DATE_EPOCH=0
RUN set -eu; \
    install -d /image/etc /image/var/lib/dpkg/status.d; \
    echo 'hosts: files dns' > /image/etc/nsswitch.conf; \
    cp /usr/lib/os-release /image/etc/os-release; \
    dpkg-query --status libc6-dev > /image/var/lib/dpkg/status.d/libc6-dev; \
    find /image -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Entrada" \
      org.opencontainers.image.description="Microsoft Entra sign-in in front of an AKS cluster's Kubernetes API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /image/ /
# scratch has none, and `kubectl exec deploy/entrada -- entrada doctor` looks for the program along it.
ENV PATH=/usr/local/bin
# A number, because Kubernetes' runAsNonRoot cannot look up names.
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["entrada"]
CMD ["serve"]
