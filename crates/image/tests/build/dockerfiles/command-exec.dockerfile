FROM base
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["echo $0", "x"]
