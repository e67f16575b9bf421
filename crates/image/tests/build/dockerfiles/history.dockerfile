FROM base
ENV A=1
RUN true
RUN echo x > /x
LABEL l=1
