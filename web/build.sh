#!/bin/sh
# build.sh PYTHON builds the GraphiQL bundle.
set -eu
here=$(dirname "$0")
sh "$here/npm.sh" "$1" --prefix "$here" ci --silent
sh "$here/npm.sh" "$1" --prefix "$here" run --silent build >/dev/null
