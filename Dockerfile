# The image holds one program, the C library that it links to, and the system's trust roots: no shell, no packages.
# It writes nothing to disk, so it runs with a read-only root file system and as any user.

FROM rust:1.95-trixie AS build
WORKDIR /build
COPY . .
# The mounts keep crates and objects from one build to the next; they are no part of any layer, hence the copy.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked -p entrada --bin entrada && \
    cp target/release/entrada /entrada

# The same Debian as the build, so that the program meets the C library that it was linked with.
FROM gcr.io/distroless/cc-debian13:nonroot
COPY --from=build /entrada /entrada
# A number, because Kubernetes' runAsNonRoot cannot look up names.
USER 65532:65532
EXPOSE 8443 9090
ENTRYPOINT ["/entrada"]
CMD ["serve"]
