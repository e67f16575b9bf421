FROM base AS tools
RUN mkdir -p /out/d && echo f > /out/d/f && chmod 751 /out/d
FROM scratch
COPY --from=tools /out/ /
LABEL only=this
