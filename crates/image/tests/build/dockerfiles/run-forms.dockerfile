FROM base
RUN ["sh", "-c", "echo exec > /exec"]
RUN echo a \
# a comment
  b \

  > /shell
RUN echo $HOME:$0 > /surroundings
