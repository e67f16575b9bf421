FROM base
ADD tree.tar /t/
ADD tree.tgz /u
ADD a.txt tree.tar /v/
