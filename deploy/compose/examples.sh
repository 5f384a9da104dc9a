#!/bin/bash
# The kubectl container of docker-compose.yml: defines the example types, creates an object of each, and stays for `docker compose exec`.
set -euo pipefail

until kubectl get --raw=/readyz > /dev/null 2>&1; do sleep 1; done
kubectl apply -f /examples/crds
kubectl wait --for=condition=Established --timeout=60s -f /examples/crds
# Discovery follows within seconds.
until kubectl apply -f /examples/samples.yml; do sleep 1; done
kubectl get largedata,metrics,orders --all-namespaces

# A shell in the place of process 1 ends at a stop only if it listens for it.
trap 'exit 0' TERM INT
sleep infinity &
wait
