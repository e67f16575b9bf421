FROM base
COPY . /all/
#: ignore # nothing
#: ignore **/sub
#: ignore *.txt
#: ignore !b.txt
#: ignore tree*
#: ignore links
#: ignore Dockerfile*
#: ignore .dockerignore
