# escape=`
FROM base
RUN echo a `
 b > /c:\d
ENV p=C:\x q=`$p
#: differs Env: buildah 1.28 takes backslashes for escapes whatever the directive says
