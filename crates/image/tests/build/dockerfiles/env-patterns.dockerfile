FROM base
ENV p=/a/b.tar.gz
ENV v1=${p#*/} v2=${p##*/} v3=${p%.*} v4=${p%%.*} v5=${p/a/x} v6=${p//[a]/x} v7=${p-z} v8=${q-z} v9=${p+z}
#: not buildah: 1.28 knows :- and :+ alone
