FROM base AS unneeded
RUN exit 1
FROM base AS needed
RUN echo needed > /f
FROM base
COPY --from=needed /f /
#: not buildah: 1.28 builds every stage
