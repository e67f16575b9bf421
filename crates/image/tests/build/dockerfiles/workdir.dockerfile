FROM base
WORKDIR /a/b
WORKDIR c
RUN pwd > /pwd
USER user
WORKDIR /home/user/x
COPY a.txt .
