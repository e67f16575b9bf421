FROM base
CMD inherited
ENTRYPOINT run $me
