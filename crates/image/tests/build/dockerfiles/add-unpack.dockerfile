FROM base
ADD --unpack=false tree.tar /kept/
ADD --unpack=true tree.tgz /unpacked/
RUN tar -tf /kept/tree.tar > /list && rm /kept/tree.tar
#: not buildah: 1.28 has no --unpack
