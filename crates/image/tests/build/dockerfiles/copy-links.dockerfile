FROM base
COPY links /l/
COPY links/link /followed
RUN ln -s /real /to && mkdir /real
COPY a.txt /to/
