FROM base
COPY --parents dir/sub/y a.txt /p/
COPY --parents dir/./sub /q/
COPY --parents **/x /r/
#: not buildah: 1.28 has no --parents
