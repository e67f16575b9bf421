FROM base
ENV a="b c" d=e\ f g='h $a' i="\"j\"" k=l=m
ENV old form  of it
RUN echo "$a|$d|$g|$i|$k|$old" > /out
