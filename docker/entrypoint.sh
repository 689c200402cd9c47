#!/bin/sh
# Secrets from files, then the command. Of each variable below, NAME_FILE may name a file that holds
# its value: neither the compose file nor `docker inspect` shows a secret then.
set -eu
for name in PGPASSWORD PREFECT_SERVER_DATABASE_PASSWORD PREFECT_SERVER_API_AUTH_STRING \
  PREFECT_API_AUTH_STRING MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY \
  MLFLOW_TRACKING_PASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY; do
  eval "file=\${${name}_FILE:-}"
  [ -n "$file" ] || continue
  if ! [ -r "$file" ] || ! [ -s "$file" ]; then
    echo "entrypoint: ${name}_FILE=$file is missing, empty or not readable; docker/secrets.sh makes the secrets" >&2
    exit 2
  fi
  value="$(cat "$file")"
  export "$name=$value"
  unset "${name}_FILE"
done
exec "$@"
