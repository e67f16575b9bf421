FROM base
RUN --mount=type=tmpfs,target=/t/u echo x > /t/u/f && echo ok > /seen
#: differs t: a mount point stays in buildah's image
