FROM base
ADD --chown=3:4 tree.tar /t/
ADD --chown=5 a.txt /f
#: differs t/tree: --chown holds for what is unpacked here; buildah and BuildKit pass it over
#: differs t/tree/t: --chown holds for what is unpacked here; buildah and BuildKit pass it over
#: differs t/tree/t/z: --chown holds for what is unpacked here; buildah and BuildKit pass it over
