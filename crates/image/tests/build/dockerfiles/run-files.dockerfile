FROM base
RUN mkdir -m 1777 /tmp && echo f > /f && ln /f /g && ln -s f /l && mkfifo /p && chmod 4755 /f && chown 9:10 /p
RUN touch -d 2001-02-03 /old && mkdir -m 2750 /sgid
