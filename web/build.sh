#!/bin/sh
# build.sh PYTHON builds the GraphiQL bundle.
set -eu
here=$(dirname "$0")
sh "$here/npm.sh" "$1" --prefix "$here" ci >/dev/null
sh "$here/npm.sh" "$1" --prefix "$here" run --silent build >/dev/null
