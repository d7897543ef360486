# openssl: digests, ciphers there and back, keys, signatures and a small chain of certificates.
needs openssl
seq 1 2000000 >data
for digest in md5 sha1 sha256 sha512 sha3-256 blake2b512; do
    run openssl dgst "-$digest" data
done
for cipher in aes-256-cbc aes-128-ctr camellia-256-cbc chacha20; do
    settings=("-$cipher" -pbkdf2 -S 0123456789abcdef -pass pass:tarn)
    run openssl enc "${settings[@]}" -in data -out data.enc
    sha256sum data.enc
    run openssl enc -d "${settings[@]}" -in data.enc | cmp - data
done
run openssl genrsa -out ca.key 2048
run openssl req -x509 -new -key ca.key -subj /CN=root -days 10 -out ca.crt
for name in one two three; do
    run openssl ecparam -name prime256v1 -genkey -noout -out "$name.key"
    run openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
    run openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 5 \
        -out "$name.crt"
    run openssl verify -CAfile ca.crt "$name.crt"
    run openssl dgst -sha256 -sign "$name.key" -out "$name.sig" data
    run openssl pkey -in "$name.key" -pubout -out "$name.pub"
    run openssl dgst -sha256 -verify "$name.pub" -signature "$name.sig" data
done
run openssl prime -hex F04AAC7D39D4F9CA3EEC1A02FCF7DBF9
