FROM base
COPY --link a.txt /tmp/in/
COPY --link --chown=3:4 dir /d/
ADD --link tree.tar /t/
RUN cat /tmp/in/a.txt > /seen
#: not buildah: 1.28 has no --link
