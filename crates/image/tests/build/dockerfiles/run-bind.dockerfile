FROM base
WORKDIR /w
RUN --mount=type=bind,source=dir,target=/m cat /m/x > /x
RUN --mount=type=bind,target=/ctx,rw cp /ctx/a.txt /copied && echo more > /ctx/new
