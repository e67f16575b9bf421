FROM base AS One
RUN echo 1 > /one
FROM ONE
COPY --from=one /one /n/
#: not buildah: 1.28 compares names with their case
