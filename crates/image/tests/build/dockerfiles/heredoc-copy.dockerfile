FROM base
ENV NAME=value
COPY <<one <<"two" /d/
is $NAME
one
is $NAME
two
COPY --chmod=755 --chown=3:4 <<EOF /script
#!/bin/sh
EOF
#: not buildah: 1.28 has no here-documents
