#!/bin/sh
# Makes the secrets that compose.yaml reads, at random, in docker/secrets/ or the folder given.
# One that is there already is kept: a database knows it.
set -eu
folder="${1:-$(dirname "$0")/secrets}"
umask 022
mkdir -p "$folder"
# The folder keeps others out. The files can be read by whoever gets in: the containers' user is
# another one than yours, and compose mounts files with the owner and mode that they have.
chmod 700 "$folder"

random() { od -An -tx1 -N"$1" /dev/urandom | tr -d ' \n'; }

put() {
  [ -e "$folder/$1" ] || printf '%s' "$2" > "$folder/$1"
}

for name in postgres_password prefect_db_password mlflow_db_password mlflow_admin_password \
  mlflow_secret_key s3_secret_key; do
  put "$name" "$(random 24)"
done
put s3_access_key "sa3d$(random 8)"
put prefect_auth_string "admin:$(random 24)"
echo "secrets are in $folder"
