FROM base
RUN --mount=type=secret,id=corpus cat /run/secrets/corpus | wc -c > /length
RUN --mount=type=secret,id=corpus,target=/s/t,mode=0444 stat -c %a /s/t > /mode
#: differs s: a mount point stays in buildah's image
#: differs run/secrets: a mount point stays in buildah's image
