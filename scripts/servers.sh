#!/bin/sh
# Unpacks Debian's Redis, RabbitMQ and nginx into a folder, without installing anything: servers.sh FOLDER
# The tests start private servers from there. Where the machine has its own, those are used; where
# there is no apt, nothing happens, and the tests say what they miss.
set -eu

folder=$1
mkdir -p "$folder"
root=$(cd "$folder" && pwd -P)
has_brokers() {
    [ -x /usr/bin/redis-server ] && [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] && return 0
    [ "$(cat "$root/.complete" 2>/dev/null)" = "$root" ] # a copied checkout unpacks anew
}
has_nginx() {
    [ -x /usr/sbin/nginx ] || [ -x "$root/usr/sbin/nginx" ]
}
if has_brokers && has_nginx; then
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Without apt the tests need redis-server, rabbitmq-server and nginx on this machine." >&2
    exit 0
fi

unpack() {
    # Debian's packages of these names, as they are for this machine.
    mkdir -p "$root/packages"
    if ! (cd "$root/packages" && apt-get -q download "$@" >/dev/null 2>&1); then
        apt-get update >/dev/null 2>&1 || true
        (cd "$root/packages" && apt-get -q download "$@" >/dev/null 2>&1) || return 1
    fi
    for package in "$root"/packages/*.deb; do
        dpkg -x "$package" "$root"
    done
    rm -rf "$root/packages"
}

broker_packages() {
    # What an installation would add; logrotate and the like are not needed to run.
    apt-get --simulate --no-install-recommends install redis-server rabbitmq-server 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\).*/\1/p' | grep -v -e '^logrotate$' -e '^libpopt0$' -e '^adduser$'
}

if ! has_brokers; then
    echo "Unpacking Redis and RabbitMQ into $folder (36 MB to download, for the tests)"
    rm -rf "$root"
    mkdir -p "$root"
    if [ -z "$(broker_packages)" ]; then
        apt-get update >/dev/null 2>&1 || true
    fi
    # shellcheck disable=SC2046
    if ! unpack $(broker_packages); then
        echo "Redis and RabbitMQ could not be downloaded; tests that need them will say so." >&2
        rm -rf "$root"
        exit 0
    fi
    # Erlang looks for itself in /usr/lib, unless told otherwise.
    for script in "$root"/usr/lib/erlang/bin/erl "$root"/usr/lib/erlang/bin/start "$root"/usr/lib/erlang/erts-*/bin/erl; do
        [ -e "$script" ] && sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR=$root/usr/lib/erlang|" "$script"
    done
    echo "$root" >"$root/.complete"
fi
if ! has_nginx; then
    echo "Unpacking nginx into $folder (1 MB to download, for the tests)"
    unpack nginx libpcre2-8-0 || {
        echo "nginx could not be downloaded; tests that need it will say so." >&2
        rm -rf "$root/packages"
    }
fi
