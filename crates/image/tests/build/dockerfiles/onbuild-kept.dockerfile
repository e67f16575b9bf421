FROM base
ONBUILD RUN echo later
ONBUILD ADD x /y
