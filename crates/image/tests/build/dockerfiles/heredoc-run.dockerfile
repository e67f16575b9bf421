FROM base
RUN <<EOF
echo one > /one
x=2
echo $x > /two
EOF
RUN cat <<A > /a && cat <<'B' >> /a
$((1+1))
A
$literal
B
#: not buildah: 1.28 has no here-documents
