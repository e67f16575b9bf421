FROM base
COPY a.txt /file
COPY a.txt b.txt /dir/
COPY *.txt /pattern/
COPY ["a.txt", "/with space"]
COPY dir /content
COPY dir/ /slash/
COPY di?/s* /inner/
#: differs inner: a new directory has the mode of its source here, as in BuildKit
