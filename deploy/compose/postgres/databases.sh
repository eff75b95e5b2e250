#!/bin/bash
# Run once, on an empty volume: a user and a database of the same name for each who keeps something here.
set -euo pipefail

make_database() {
    psql --username "${POSTGRES_USER:-postgres}" --set ON_ERROR_STOP=1 --set name="$1" --set password="$2" <<'SQL'
create role :"name" login password :'password';
create database :"name" owner :"name";
SQL
}

make_database catalog "$CATALOG_PASSWORD"
make_database prefect "$PREFECT_PASSWORD"
