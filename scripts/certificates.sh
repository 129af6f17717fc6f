#!/usr/bin/env bash
# Makes a private authority and a certificate for each node, as cluster.tls_ca, tls_cert and tls_key want them. A HOST
# is the name or IP address by which a node stands in cluster.peers. What is there already stays as it is.
#   scripts/certificates.sh DIR HOST...
#   scripts/certificates.sh certificates 10.0.0.1 10.0.0.2 10.0.0.3
# A node gets ca.pem, HOST.pem and HOST.key. DIR/authority/ca.key stays with you: who has it may add nodes.
set -euo pipefail
umask 077
[ $# -ge 2 ] || { sed -n '4,5s/^# *//p' "$0" >&2; exit 2; }
command -v openssl >/dev/null || { echo "openssl is not installed" >&2; exit 2; }
dir=$1
shift
days=3650
mkdir -p "$dir/authority"

# A certificate is moved to its place when it is whole: an interrupted run is done again from there.
place() {
    chmod 644 "$1.new"
    mv "$1.new" "$1"
}

if [ ! -e "$dir/ca.pem" ]; then
    openssl req -x509 -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -sha256 -days "$days" \
        -keyout "$dir/authority/ca.key" -out "$dir/ca.pem.new" -config /dev/stdin <<'CONFIG'
[req]
prompt = no
distinguished_name = name
x509_extensions = authority
[name]
CN = hotseat cluster
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
CONFIG
    place "$dir/ca.pem"
    echo "$dir/ca.pem: the authority"
fi

for host in "$@"; do
    [ ! -e "$dir/$host.pem" ] || continue
    kind=DNS
    [[ $host =~ ^[0-9.]+$ || $host == *:* ]] && kind=IP
    openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj "/CN=$host" -keyout "$dir/$host.key" |
        openssl x509 -req -sha256 -days "$days" -CA "$dir/ca.pem" -CAkey "$dir/authority/ca.key" \
            -set_serial "0x$(openssl rand -hex 16)" -out "$dir/$host.pem.new" -extfile <(
            cat <<EXTENSIONS
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = $kind:$host
authorityKeyIdentifier = keyid
EXTENSIONS
        )
    place "$dir/$host.pem"
    echo "$dir/$host.pem: for $host"
done
