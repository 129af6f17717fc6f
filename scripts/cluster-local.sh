#!/usr/bin/env bash
# Three nodes on this machine, with a PostgreSQL and a Redis of their own, in a temporary directory. No containers.
#   scripts/cluster-local.sh                   starts everything, says what to try, and ends everything with Ctrl-C
# and, in another terminal, while it runs:
#   scripts/cluster-local.sh kill N            kills node N, as a crash would
#   scripts/cluster-local.sh stop N            stops node N: it gives its shards away first
#   scripts/cluster-local.sh start N           starts node N again, or a fourth one
#   scripts/cluster-local.sh hotseat ...       a command of hotseat beside node 1, e.g. `hotseat audit`
# HOTSEAT_BIN names another binary than target/release/hotseat. As root, PostgreSQL runs as the user postgres.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=${TMPDIR:-/tmp}/hotseat-cluster
bin=${HOTSEAT_BIN:-target/release/hotseat}
# To hotseat it would be a setting that it does not know.
unset HOTSEAT_BIN

export HOTSEAT_LEDGER_URL=postgres://hotseat@127.0.0.1:7450/postgres HOTSEAT_MIRROR_URL=redis://127.0.0.1:7451/0
export HOTSEAT_AUTH_SECRET=for-trying-things-out-on-this-machine-only HOTSEAT_AUTH_DEV_TOKENS=true
export HOTSEAT_CLUSTER_PEERS="127.0.0.1:7401 127.0.0.1:7402 127.0.0.1:7403" HOTSEAT_REBALANCE_INTERVAL=5s

node() {
    local no=$1
    shift
    HOTSEAT_NODE_NAME=node-$no HOTSEAT_CLUSTER_LISTEN=127.0.0.1:740$no "$dir/hotseat" serve "$@" --data "$dir/node-$no" \
        --listen "127.0.0.1:808$no" --ops-listen "127.0.0.1:809$no" >>"$dir/node-$no.log" 2>&1 &
    echo "$!" >"$dir/node-$no.pid"
}
ready() {
    for _ in $(seq 300); do
        kill -0 "$(cat "$dir/node-$1.pid")" 2>/dev/null || break
        curl -sf "http://127.0.0.1:809$1/readyz" >/dev/null && return
        sleep 0.1
    done
    echo "node-$1 did not become ready:" >&2
    tail -5 "$dir/node-$1.log" >&2
    exit 1
}
# Of whoever started it.
gone() {
    while kill -0 "$1" 2>/dev/null; do sleep 0.1; done
}

case "${1:-}" in
"") ;;
kill | stop | start)
    [[ ${2:-} =~ ^[1-4]$ ]] || { echo "which node? scripts/cluster-local.sh $1 1 to 4" >&2; exit 2; }
    [ -d "$dir" ] || { echo "no cluster runs: scripts/cluster-local.sh starts one" >&2; exit 2; }
    pid=$(cat "$dir/node-$2.pid" 2>/dev/null) && kill -0 "$pid" 2>/dev/null || pid=
    if [ "$1" = start ]; then
        [ -z "$pid" ] || { echo "node-$2 runs" >&2; exit 2; }
        node "$2"
        ready "$2"
    else
        [ -n "$pid" ] || { echo "node-$2 does not run" >&2; exit 2; }
        if [ "$1" = kill ]; then kill -9 "$pid"; else kill "$pid"; fi
        gone "$pid"
    fi
    exit
    ;;
hotseat)
    shift
    # Beside a node nobody listens for peers.
    unset HOTSEAT_CLUSTER_PEERS
    exec "$dir/hotseat" "$@" --data "$dir/node-1"
    ;;
*)
    sed -n '4,8s/^# *//p' "$0" >&2
    exit 2
    ;;
esac

[ -x "$bin" ] || { echo "there is no $bin: cargo build --release, or set HOTSEAT_BIN" >&2; exit 2; }
bin=$(realpath "$bin")
pg=$(command -v postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' | tail -1) || true
[ -n "$pg" ] || { echo "PostgreSQL is not installed: see tests/install-servers.sh" >&2; exit 2; }
command -v redis-server >/dev/null || { echo "Redis is not installed: see tests/install-servers.sh" >&2; exit 2; }
pg=$(dirname "$(realpath "$pg")")

mkdir "$dir" || { echo "a cluster runs, or one was killed: if none does, rm -r $dir" >&2; exit 2; }
chmod 755 "$dir"
as_postgres() { "$@"; }
mkdir "$dir/pg"
if [ "$(id -u)" -eq 0 ]; then
    as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
    chown postgres: "$dir/pg"
fi
end() {
    trap - EXIT INT TERM
    for file in "$dir"/*.pid; do kill "$(cat "$file")" 2>/dev/null || true; done
    for file in "$dir"/*.pid; do gone "$(cat "$file")"; done
    as_postgres "$pg/pg_ctl" -D "$dir/pg/data" -m fast stop >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap end EXIT
trap 'exit 130' INT TERM

ln -s "$bin" "$dir/hotseat"
as_postgres "$pg/initdb" -D "$dir/pg/data" -A trust -U hotseat >/dev/null
as_postgres "$pg/pg_ctl" -D "$dir/pg/data" -l "$dir/pg/log" -w \
    -o "-p 7450 -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir/pg" start >/dev/null
redis-server --port 7451 --bind 127.0.0.1 --save '' --appendonly no --dir "$dir" >"$dir/redis.log" &
echo "$!" >"$dir/redis.pid"

node 1 --demo
ready 1
node 2
node 3
ready 2
ready 3
cat <<SAY
Three nodes sell: http://127.0.0.1:8081, 8082 and 8083. Their logs and data are in $dir.
In another terminal:
  scripts/cluster-local.sh hotseat shards list     who owns what; even after 5 s
  ${bin%/*}/hotseat-bench --url http://127.0.0.1:8082 --survive 30s
                                                   sells the stadium out through the second node
  scripts/cluster-local.sh kill 3                  and go on selling through the others
  scripts/cluster-local.sh start 3                 brings it back
  scripts/cluster-local.sh hotseat audit           proves that nothing was sold twice
Ctrl-C ends everything.
SAY
# Nodes that were started again are nobody's children here.
while sleep 1; do :; done
