# syntax=docker/dockerfile:1
# check=skip=all
FROM base
run echo lower > /case
coPY a.txt /a
