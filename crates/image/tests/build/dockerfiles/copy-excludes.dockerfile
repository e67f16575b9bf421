FROM base
COPY --exclude=*.txt . /n/
COPY --exclude=sub --exclude=**/link . /m/
#: ignore *
#: ignore !a.txt
#: ignore !dir
#: ignore !links
#: not buildah: 1.28 has no --exclude
