FROM base
COPY a.txt /f
RUN ln -s f /l && mkdir -m 700 /d && echo old > /d/x
COPY b.txt /f
COPY dir /d/
