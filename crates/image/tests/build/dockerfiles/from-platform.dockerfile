FROM --platform=$BUILDPLATFORM base
ARG BUILDPLATFORM
RUN echo "$BUILDPLATFORM" > /p
#: not buildah: 1.28 does not expand BUILDPLATFORM in FROM
