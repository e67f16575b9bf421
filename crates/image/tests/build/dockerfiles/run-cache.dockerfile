FROM base
RUN --mount=type=cache,target=/cache/dir,id=corpus echo x > /cache/dir/f && cat /cache/dir/f > /seen
#: differs cache: a mount point stays in buildah's image
