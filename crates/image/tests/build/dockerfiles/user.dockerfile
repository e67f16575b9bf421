FROM base
RUN mkdir -m 777 /o
USER 77:88
RUN id -u > /o/a; id -g >> /o/a
USER user
RUN id > /o/b; touch /o/c
USER root
RUN id -u > /o/d
