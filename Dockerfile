# One image, one static binary. BuildKit, buildah and Podman build it; README.md in config says how. The base images are pinned by
# version; a release build pins them by digest with --build-arg.
ARG GO_IMAGE=docker.io/library/golang:1.26.8-bookworm
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# A default of these would be taken by BuildKit in place of the platform.
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
ARG COMMIT
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH:-amd64} \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION} -X main.commit=${COMMIT}" -o /out/kyverno-notation-venafi ./function/cmd/kyverno-notation-venafi

# The verification plugin, from its release. The checksum has no default: give the one that the release publishes beside
# the archive (its name with .sha256), read over a channel that you trust; for several platforms those of all their archives,
# separated by blanks.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS plugin
ARG TARGETARCH
ARG PLUGIN_RELEASE=https://github.com/Venafi/notation-venafi-csp/releases/download/v0.3.3
ARG PLUGIN_SHA256
WORKDIR /download
ADD ${PLUGIN_RELEASE}/notation-venafi-csp-linux-${TARGETARCH:-amd64}.tar.gz plugin.tar.gz
RUN { for sum in ${PLUGIN_SHA256}; do echo "${sum}  plugin.tar.gz"; done | sha256sum -c 2>/dev/null | grep -qx "plugin.tar.gz: OK" || \
    { echo "PLUGIN_SHA256 has not the checksum of the plugin in ${PLUGIN_RELEASE} for ${TARGETARCH:-amd64}" >&2; exit 1; }; } && \
    mkdir -p /out/plugins/venafi-csp && \
    tar -xzf plugin.tar.gz && \
    cp notation-venafi-csp /out/plugins/venafi-csp/ && \
    chmod 0555 /out/plugins/venafi-csp/notation-venafi-csp

FROM ${BASE_IMAGE}
ARG VERSION=dev
LABEL org.opencontainers.image.title="kyverno-notation-venafi" \
      org.opencontainers.image.description="Verifies Notation signatures and attestations of container images for Kyverno" \
      org.opencontainers.image.source="https://github.com/nirmata/kyverno-notation-venafi" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/kyverno-notation-venafi /kyverno-notation-venafi
COPY --from=plugin /out/plugins /plugins
ENV PLUGINS_DIR=/plugins
# Numeric, so that runAsNonRoot can be checked. Nothing is written: the root file system may be read-only.
USER 65532:65532
EXPOSE 8080 9443
ENTRYPOINT ["/kyverno-notation-venafi"]
CMD ["serve"]
