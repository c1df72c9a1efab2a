# The action's image, as the runner builds it at the start of a job that uses a
# branch, in the plain Dockerfile syntax that every builder understands. A
# release's image is built by internal/releaseimage. The build stage uses nothing
# but sh, go and the CA bundle of its base.
FROM golang:1.26.8-alpine@sha256:8ac98ca534ac3f51e1f420a1dd2c15e74c75cfa0f23f3ad27eb5d7236c349a0c AS build

# A module proxy other than Go's default: --build-arg GOPROXY=https://...
ARG GOPROXY

WORKDIR /src
COPY go.mod go.sum ./
COPY main.go ./
COPY pkg/ pkg/
# -buildvcs=false: the context carries no repository, and needs none.
ENV CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath '-ldflags=-s -w'"
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
