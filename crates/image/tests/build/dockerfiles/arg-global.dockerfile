ARG BASE=base
ARG DIR=/dir
FROM $BASE
ARG DIR
ARG NONE
COPY a.txt ${DIR}/f
RUN echo "${NONE-unset} $DIR" > /args
