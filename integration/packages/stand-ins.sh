#!/usr/bin/env bash
# Images under the public names that deploy/Dockerfile and docker-compose.yml want, made of Debian packages and of the programs that
# the tests build: for machines whose container engine cannot pull. They are for trying those two files and nothing else: mysql is
# MariaDB, postgres is Debian's release. As root on Debian, with docker and debootstrap:
#   integration/packages/stand-ins.sh
# An image that is there already stays. Programs of etcd and Kubernetes are taken from the cache of the tests.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/switchyard/bin
etcd_version=$(sed -n "s/^  etcd: '\([0-9.]*\)',/\1/p" integration/servers/versions.ts)
kubernetes_version=$(sed -n "s/^  kubernetes: '\([0-9.]*\)',/\1/p" integration/servers/versions.ts)
node=$(readlink -f node_modules/node/bin/node)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' | sed -n 1p)

missing() { ! docker image inspect "$1" > /dev/null 2>&1; }

# What the images of distroless have beside their program.
minimal() {
  mkdir -p "$1"/{etc/ssl/certs,tmp,usr/local/bin,home/nonroot,var/lib}
  chmod 1777 "$1/tmp"
  cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
  printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' > "$1/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' > "$1/etc/group"
  printf 'hosts: files dns\n' > "$1/etc/nsswitch.conf"
}

# image NAME FOLDER [CHANGE…]
image() {
  local name=$1 folder=$2 changes=()
  shift 2
  for change in "$@"; do changes+=(--change "$change"); done
  tar -C "$folder" -c . | docker import "${changes[@]}" - "$name" > /dev/null
  rm -rf "$folder"
  echo "made $name"
}

etcd=gcr.io/etcd-development/etcd:v$etcd_version
if missing "$etcd"; then
  minimal "$work/etcd"
  for name in etcd etcdctl; do cp "$cache/$name-$etcd_version" "$work/etcd/usr/local/bin/$name"; done
  image "$etcd" "$work/etcd" 'CMD ["/usr/local/bin/etcd"]' 'ENV PATH=/usr/local/bin'
fi

for name in kube-apiserver kube-controller-manager; do
  tag=registry.k8s.io/$name:v$kubernetes_version
  if missing "$tag"; then
    minimal "$work/$name"
    cp "$cache/$name-$kubernetes_version" "$work/$name/usr/local/bin/$name"
    image "$tag" "$work/$name" 'ENTRYPOINT ["/go-runner"]' 'ENV PATH=/usr/local/bin'
  fi
done

distroless=gcr.io/distroless/nodejs24-debian12:nonroot
if missing "$distroless"; then
  root=$work/distroless
  minimal "$root"
  mkdir -p "$root/nodejs/bin"
  cp "$node" "$root/nodejs/bin/node"
  ldd "$node" | grep -o '/[^ ]*' | while read -r library; do cp --parents -L "$library" "$root"; done
  cp --parents -L /lib/x86_64-linux-gnu/libnss_{files,dns}.so.2 /lib/x86_64-linux-gnu/libresolv.so.2 "$root"
  image "$distroless" "$root" 'USER 65532' 'WORKDIR /home/nonroot' 'ENTRYPOINT ["/nodejs/bin/node"]' \
    'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt'
fi

if missing stand-in-debian; then
  debootstrap --variant=minbase --include=bash,ca-certificates,gawk,jq,mariadb-server,openssl,postgresql,util-linux \
    bookworm "$work/debian" "$mirror" > "$work/debootstrap.log" || { tail -20 "$work/debootstrap.log"; exit 1; }
  cp /etc/ssl/certs/ca-certificates.crt "$work/debian/etc/ssl/certs/"
  rm -rf "$work/debian"/etc/postgresql/* "$work/debian"/var/lib/mysql/* "$work/debian"/var/lib/postgresql/* "$work/debian"/var/cache/apt/*
  image stand-in-debian "$work/debian" 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
fi

# derived NAME: the instructions come on standard input, the context is $work/context.
derived() {
  if missing "$1"; then
    { echo 'FROM stand-in-debian'; cat; } > "$work/context/Dockerfile"
    docker build -q -t "$1" "$work/context" > /dev/null
    echo "made $1"
  fi
}

mkdir -p "$work/context"
cat > "$work/context/postgres" << 'EOF'
#!/bin/bash
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
mkdir -p "$data" && chown postgres:postgres "$data" && chmod 700 "$data"
if [ ! -e "$data/PG_VERSION" ]; then
  echo "$POSTGRES_PASSWORD" > /tmp/password && chown postgres /tmp/password
  as "$bin/initdb" -D "$data" --auth-local=trust --auth-host=scram-sha-256 --pwfile=/tmp/password
  rm /tmp/password
  echo 'host all all all scram-sha-256' >> "$data/pg_hba.conf"
fi
mkdir -p /var/run/postgresql && chown postgres /var/run/postgresql
exec setpriv --reuid=postgres --regid=postgres --init-groups "$bin/postgres" -D "$data" -c listen_addresses='*'
EOF
cat > "$work/context/mysql" << 'EOF'
#!/bin/bash
set -eu
data=/var/lib/mysql
mkdir -p /run/mysqld && chown mysql:mysql /run/mysqld "$data"
if [ ! -d "$data/mysql" ]; then
  mariadb-install-db --user=mysql --datadir="$data" --auth-root-authentication-method=normal > /dev/null
  cat > /tmp/init.sql << SQL
ALTER USER root@localhost IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
CREATE USER root@'%' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
SQL
  exec mariadbd --user=mysql --bind-address=0.0.0.0 --init-file=/tmp/init.sql
fi
exec mariadbd --user=mysql --bind-address=0.0.0.0
EOF
chmod +x "$work"/context/{postgres,mysql}
cp "$cache/kubectl-$kubernetes_version" "$work/context/kubectl"
cp "$node" "$work/context/node"
cp -rL "$(dirname "$(readlink -f "$(command -v npm)")")/.." "$work/context/npm-package"
cp "$(npm config get globalconfig)" "$work/context/npmrc" 2> /dev/null || touch "$work/context/npmrc"

derived postgres:17 << 'EOF'
COPY postgres /usr/local/bin/docker-entrypoint.sh
RUN ln -s /usr/lib/postgresql/*/bin/pg_isready /usr/local/bin/
VOLUME /var/lib/postgresql/data
ENTRYPOINT ["docker-entrypoint.sh"]
EOF
derived mysql:8.4 << 'EOF'
COPY mysql /usr/local/bin/docker-entrypoint.sh
VOLUME /var/lib/mysql
ENTRYPOINT ["docker-entrypoint.sh"]
EOF
derived "registry.k8s.io/kubectl:v$kubernetes_version" << 'EOF'
COPY kubectl /bin/kubectl
ENTRYPOINT ["/bin/kubectl"]
EOF
derived node:24-bookworm-slim << 'EOF'
COPY node /usr/local/bin/node
COPY npm-package /usr/local/lib/node_modules/npm
COPY npmrc /usr/local/etc/npmrc
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && chmod +x /usr/local/lib/node_modules/npm/bin/npm-cli.js
EOF
