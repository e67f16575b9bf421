FROM base
COPY --chmod=u=rwX,go=rX dir /a/
COPY --chmod=+x a.txt /b
COPY --chmod=go= dir /c/
#: not buildah: 1.28 takes octal numbers alone
