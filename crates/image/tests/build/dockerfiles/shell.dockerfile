FROM base
SHELL ["/bin/sh", "-e", "-c"]
RUN echo $- | tr -cd e > /flags
CMD run it
#: differs Cmd: buildah 1.28 does not use SHELL for CMD
