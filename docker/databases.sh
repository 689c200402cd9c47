#!/bin/sh
# Run once by the Postgres image, when its volume is new: a user and databases of its own for
# each server, with passwords from files.
set -eu
psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  --set prefect_password="$(cat "$PREFECT_DB_PASSWORD_FILE")" \
  --set mlflow_password="$(cat "$MLFLOW_DB_PASSWORD_FILE")" <<'SQL'
CREATE ROLE prefect LOGIN PASSWORD :'prefect_password';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE CONNECT ON DATABASE prefect, mlflow, mlflow_auth FROM PUBLIC;
SQL
