#!/usr/bin/env bash
# Three nodes on this machine, with a PostgreSQL and a Redis of their own in a temporary directory. No containers.
#   scripts/cluster-local.sh          starts everything, says what to try, and ends everything with Ctrl-C
# HOTSEAT_BIN names another binary than target/release/hotseat. As root, PostgreSQL runs as the user postgres.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "${HOTSEAT_BIN:-target/release/hotseat}")
unset HOTSEAT_BIN # no setting of hotseat's
[ -x "$bin" ] || { echo "there is no $bin: cargo build --release, or set HOTSEAT_BIN" >&2; exit 2; }
pg=$(command -v postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' | tail -1) || true
[ -n "$pg" ] || { echo "PostgreSQL is not installed: see tests/install-servers.sh" >&2; exit 2; }
command -v redis-server >/dev/null || { echo "Redis is not installed: see tests/install-servers.sh" >&2; exit 2; }
pg=$(dirname "$(realpath "$pg")")

dir=$(mktemp -d)
chmod 755 "$dir"
as_postgres() { "$@"; }
if [ "$(id -u)" -eq 0 ]; then
    as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
    mkdir "$dir/pg" && chown postgres: "$dir/pg"
else
    mkdir "$dir/pg"
fi
pids=()
end() {
    trap - EXIT INT TERM
    [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    as_postgres "$pg/pg_ctl" -D "$dir/pg/data" -m fast stop >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap end EXIT
trap 'exit 130' INT TERM

as_postgres "$pg/initdb" -D "$dir/pg/data" -A trust -U hotseat >/dev/null
as_postgres "$pg/pg_ctl" -D "$dir/pg/data" -l "$dir/pg/log" -w \
    -o "-p 7450 -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir/pg" start >/dev/null
redis-server --port 7451 --bind 127.0.0.1 --save '' --appendonly no --dir "$dir" >"$dir/redis.log" &
pids+=($!)

export HOTSEAT_LEDGER_URL=postgres://hotseat@127.0.0.1:7450/postgres HOTSEAT_MIRROR_URL=redis://127.0.0.1:7451/0
export HOTSEAT_AUTH_SECRET=for-trying-things-out-on-this-machine-only HOTSEAT_AUTH_DEV_TOKENS=true
export HOTSEAT_CLUSTER_PEERS="127.0.0.1:7401 127.0.0.1:7402 127.0.0.1:7403" HOTSEAT_REBALANCE_INTERVAL=5s
node() {
    local no=$1
    shift
    HOTSEAT_NODE_NAME=node-$no HOTSEAT_CLUSTER_LISTEN=127.0.0.1:740$no "$bin" serve "$@" --data "$dir/node-$no" \
        --listen "127.0.0.1:808$no" --ops-listen "127.0.0.1:809$no" >>"$dir/node-$no.log" 2>&1 &
    pids+=($!)
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
node 1 --demo
ready 1
node 2
node 3
ready 2
ready 3
cat <<SAY
Three nodes sell: http://127.0.0.1:8081, 8082 and 8083. Their logs and data are in $dir.
In another terminal:
  $bin shards list --data $dir/node-1                          who owns what; even after 5 s
  ${bin%/*}/hotseat-bench rush --url http://127.0.0.1:8082 --option 2   sell a hall out through the second
  kill -9 \$(cat $dir/node-3.pid)                               and go on selling through the others
Ctrl-C ends everything.
SAY
wait
