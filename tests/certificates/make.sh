#!/bin/sh
# Makes the certificates of this folder anew: a private CA, a server of this machine, one that has expired, and another
# host's. All have one key, which is for tests and known to everybody. Needs OpenSSL's command.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
touch "$work/index.txt"
cat > "$work/ca.cnf" <<END
[ca]
default_ca = default
[default]
database = $work/index.txt
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = policy
unique_subject = no
[policy]
commonName = supplied
[end]
basicConstraints = critical, CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = \$ENV::NAMES
[ca_itself]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END

sign() { # file, common name, extensions, last year, how
    openssl req -new -key key.pem -subj "/CN=$2" -out "$work/request.csr"
    openssl ca -batch -notext -config "$work/ca.cnf" -in "$work/request.csr" -keyfile key.pem -extensions "$3" \
        -startdate 20000101000000Z -enddate "$4" -out "$1.pem" $5
}

export NAMES=DNS:localhost
openssl ecparam -name prime256v1 -genkey -noout -out key.pem
sign ca "A private CA for tests" ca_itself 21260101000000Z -selfsign
export NAMES=IP:127.0.0.1,DNS:localhost
sign server localhost end 21260101000000Z "-cert ca.pem"
sign expired localhost end 20010101000000Z "-cert ca.pem"
export NAMES=DNS:mail.example.com
sign elsewhere mail.example.com end 21260101000000Z "-cert ca.pem"
