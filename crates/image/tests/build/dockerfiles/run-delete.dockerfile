FROM base
RUN mkdir -p /d/e && echo f > /d/e/f && echo g > /d/g
RUN rm -r /d && mkdir /d && echo new > /d/new
RUN rm /d/new /etc/group
