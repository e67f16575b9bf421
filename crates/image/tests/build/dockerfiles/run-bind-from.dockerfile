FROM base AS src
RUN mkdir /s && echo src > /s/f && chown 5:6 /s/f
FROM base
RUN --mount=type=bind,from=src,source=/s,target=/m cat /m/f > /f && stat -c %u:%g /m/f >> /f
