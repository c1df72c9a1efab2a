# The action's image, as the runner builds it at the start of a job: from
# source, in the plain Dockerfile syntax that every builder understands. The
# build stage uses nothing but sh, go and the CA bundle of its base.
FROM golang:1.26-alpine AS build

# A module proxy other than Go's default: --build-arg GOPROXY=https://...
ARG GOPROXY

WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY main.go ./
COPY pkg/ pkg/
# Another architecture than the builder's: --build-arg GOARCH=arm64
ARG GOARCH
# The release, which Charmhub and registries see in User-Agent.
ARG VERSION=devel
# -buildvcs=false: the context carries no repository, and needs none.
ENV CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath '-ldflags=-s -w -X main.version=$VERSION'"
RUN go build -o /upload-resource .

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /upload-resource /upload-resource

# An empty directory: packed layers wait there until they are sent.
WORKDIR /tmp
WORKDIR /

# No USER: only root may write the file behind GITHUB_OUTPUT and reach the
# engine's socket, both of which the runner mounts.
ENTRYPOINT ["/upload-resource"]
