FROM base AS b
ENTRYPOINT ["/entry"]
CMD ["a"]
FROM b
ENTRYPOINT ["/other"]
