FROM base AS one
RUN echo 1 > /one
FROM base AS two
COPY --from=one /one /two
FROM two
COPY --from=0 /one /n/
COPY --from=two /two /n/
