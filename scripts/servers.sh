#!/bin/sh
# Unpacks Debian's Redis and RabbitMQ into a folder, without installing anything: servers.sh FOLDER
# The tests start private servers from there. Where the machine has its own, those are used; where
# there is no apt, nothing happens, and the tests say what they miss.
set -eu

folder=$1
if [ -x /usr/bin/redis-server ] && [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; then
    exit 0
fi
mkdir -p "$folder"
root=$(cd "$folder" && pwd -P)  # one cache, also where a link leads to it
if [ "$(cat "$root/.complete" 2>/dev/null)" = "$root" ]; then # a copied checkout unpacks anew
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Without apt the tests need redis-server and rabbitmq-server on this machine." >&2
    exit 0
fi

packages() {
    # What an installation would add; logrotate and the like are not needed to run.
    apt-get --simulate --no-install-recommends install redis-server rabbitmq-server 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\).*/\1/p' | grep -v -e '^logrotate$' -e '^libpopt0$' -e '^adduser$'
}

echo "Unpacking Redis and RabbitMQ into $folder (36 MB to download, for the tests)"
rm -rf "$folder"
mkdir -p "$folder/packages"
if [ -z "$(packages)" ]; then
    apt-get update >/dev/null 2>&1 || true
fi
wanted=$(packages)
# shellcheck disable=SC2086
if [ -z "$wanted" ] || ! (cd "$folder/packages" && apt-get -q download $wanted >/dev/null 2>&1); then
    (apt-get update >/dev/null 2>&1 && cd "$folder/packages" &&
        apt-get -q download $(packages) >/dev/null 2>&1) || {
        echo "Redis and RabbitMQ could not be downloaded; tests that need them will say so." >&2
        rm -rf "$folder"
        exit 0
    }
fi
for package in "$folder"/packages/*.deb; do
    dpkg -x "$package" "$folder"
done
rm -rf "$folder/packages"

# Erlang looks for itself in /usr/lib, unless told otherwise.
for script in "$root"/usr/lib/erlang/bin/erl "$root"/usr/lib/erlang/bin/start "$root"/usr/lib/erlang/erts-*/bin/erl; do
    [ -e "$script" ] && sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR=$root/usr/lib/erlang|" "$script"
done
echo "$root" >"$root/.complete"
