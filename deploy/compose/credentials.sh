#!/bin/sh
# Makes everything that the services of docker-compose.yml show each other: an authority, a certificate for each of them, the keys
# of service account tokens, and kubeconfigs. Runs once, as root, with a volume at /credentials; what is there already stays.
set -eu
cd /credentials
if [ -e done ]; then exit 0; fi

# Whom switchyard's image runs as.
switchyard_user=65532:65532
days=3650

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days $days \
  -subj '/CN=switchyard compose' -keyout ca.key -out ca.crt 2>/dev/null

# issue FILE SUBJECT USAGE [NAMES]
issue() {
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  {
    printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\n' "$3"
    if [ -n "${4:-}" ]; then printf 'subjectAltName=%s\n' "$4"; fi
  } > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days $days -sha256 \
    -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

issue switchyard '/CN=switchyard' serverAuth DNS:switchyard,DNS:localhost,IP:127.0.0.1
issue etcd-client '/CN=kube-apiserver' clientAuth
issue kube-apiserver '/CN=kube-apiserver' serverAuth \
  DNS:kube-apiserver,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.0.0.1
issue admin '/O=system:masters/CN=admin' clientAuth
issue controller-manager '/CN=system:kube-controller-manager' clientAuth
openssl genrsa -out service-accounts.key 2048 2>/dev/null
openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null

# kubeconfig FILE CERTIFICATE ADDRESS
kubeconfig() {
  cat > "$1" << EOF
apiVersion: v1
kind: Config
current-context: switchyard
contexts:
  - { name: switchyard, context: { cluster: switchyard, user: switchyard } }
clusters:
  - name: switchyard
    cluster: { server: '$3', certificate-authority-data: $(base64 -w0 ca.crt) }
users:
  - name: switchyard
    user:
      client-certificate-data: $(base64 -w0 "$2.crt")
      client-key-data: $(base64 -w0 "$2.key")
EOF
  chmod 600 "$1"
}

kubeconfig admin.kubeconfig admin https://kube-apiserver:6443
kubeconfig controller-manager.kubeconfig controller-manager https://kube-apiserver:6443
# For the machine that runs the containers.
kubeconfig host.kubeconfig admin https://127.0.0.1:6443

chmod 600 ./*.key
chown "$switchyard_user" switchyard.key
touch done
