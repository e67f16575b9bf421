FROM base
RUN --network=none ls /sys/class/net > /net
RUN --security=sandbox --network=default true
#: not buildah: 1.28 knows no flag of RUN but --mount
