FROM base
RUN <<EOF
#!/bin/sh -e
echo $0 | sed 's,.*/,,' > /name
EOF
#: not buildah: 1.28 has no here-documents
