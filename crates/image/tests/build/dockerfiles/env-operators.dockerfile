FROM base
ENV a=A e=
ENV v1=${a:-x} v2=${b:-x} v3=${e:-x} v4=${a:+y} v5=${b:+y} v6=${e:+y}
ENV v7=$a$b v8=${a}z
