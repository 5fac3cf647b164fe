#!/bin/sh
# Unpacks a newer Debian's RabbitMQ into a folder, with all it needs, without installing anything:
#   newer_rabbitmq.sh .cache/newer-rabbitmq [SUITE]
# The tests run the brokers' contract on it as well where it is there (THOROUGH=1; 59 MB to download).
# Its programs are linked against that Debian's C library: each is started by that library's loader.
set -eu

suite=${2:-trixie}
mkdir -p "$1"
root=$(cd "$1" && pwd -P)
if [ "$(cat "$root/.complete" 2>/dev/null)" = "$root" ]; then # a copied checkout unpacks anew
    exit 0
fi
rm -rf "$root"
apt=$root/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/packages"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(apt-cache policy base-files | sed -n 's|^ *[0-9]* \(http[^ ]*\) .*|\1|p' | head -n 1)
echo "deb [signed-by=$keys] ${mirror:-http://deb.debian.org/debian} $suite main" >"$apt/sources.list"
: >"$apt/status" # as if nothing were installed: everything is wanted

apt() {
    command=$1
    shift
    "$command" -o Dir::Etc::SourceList="$root/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$root/apt/lists" -o Dir::Cache="$root/apt/cache" \
        -o Dir::State::status="$root/apt/status" "$@"
}

echo "Unpacking the RabbitMQ of $suite into $root"
apt apt-get -qq update
wanted=$(apt apt-get --simulate --no-install-recommends install rabbitmq-server |
    sed -n 's/^Inst \([^ ]*\).*/\1/p')
# shellcheck disable=SC2086
(cd "$apt/packages" && apt apt-get -q download $wanted >/dev/null)
for package in "$apt"/packages/*.deb; do
    dpkg -x "$package" "$root"
done
rm -rf "$apt"

erlang=$root/usr/lib/erlang
libraries=$(dirname "$(find "$root/usr/lib" -name 'ld-linux*' -type f | head -n 1)")
loader=$(find "$libraries" -name 'ld-linux*' -type f)
for program in "$erlang"/erts-*/bin/* "$erlang"/lib/*/priv/bin/*; do
    if [ -f "$program" ] && [ ! -L "$program" ] && [ "$(head -c 4 "$program" | tail -c 3)" = ELF ]; then
        mv "$program" "$program.elf"
        printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' \
            "$loader" "$libraries" "$program.elf" >"$program"
        chmod +x "$program"
    fi
done
for script in "$erlang"/bin/erl "$erlang"/bin/start "$erlang"/erts-*/bin/erl; do
    [ -e "$script" ] && sed -i "s|ROOTDIR=/usr/lib/erlang|ROOTDIR=$erlang|" "$script"
done
echo "$root" >"$root/.complete"
