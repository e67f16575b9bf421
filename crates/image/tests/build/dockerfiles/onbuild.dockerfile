FROM base AS trigger
ONBUILD COPY a.txt /on/
ONBUILD RUN cat /on/a.txt > /on/b
ONBUILD ENV ON=1
FROM trigger
RUN echo $ON > /after
