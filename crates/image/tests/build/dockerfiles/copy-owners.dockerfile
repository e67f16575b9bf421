FROM base
COPY --chown=user a.txt /a
COPY --chown=user:extra a.txt /b
COPY --chown=7 a.txt /c
COPY --chown=7:8 dir /d/
COPY --chmod=640 a.txt /e
COPY --chmod=711 --chown=1:2 b.txt /f
