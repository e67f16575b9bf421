FROM base
ARG A=1
ARG B=${A}2
ENV A=env
ARG C="c d"
RUN echo "$A $B $C" > /args
ENV D=$C E=${B}
