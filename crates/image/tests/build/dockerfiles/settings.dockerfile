FROM base
EXPOSE 80 90/udp 100-102
VOLUME /vol /vol2
VOLUME ["/vol 3"]
STOPSIGNAL SIGINT
MAINTAINER Some One <some@one>
LABEL a=b "c d"="e f" \
  g=h
USER user:extra
#: differs ExposedPorts: buildah 1.28 keeps a range as it is written
