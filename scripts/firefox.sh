#!/bin/sh
# Unpacks Debian's Firefox into a folder, without installing anything: firefox.sh FOLDER
# The tests in tests/clients that have the fixture `firefox` start FOLDER/firefox; where it cannot be had
# they are left out by name (in CI that is a failure). chromium.sh is the same for Chromium.
set -eu

folder=$1
if command -v firefox >/dev/null || command -v firefox-esr >/dev/null; then
    exit 0
fi
mkdir -p "$folder"
root=$(cd "$folder" && pwd)
if [ "$(cat "$root/.complete" 2>/dev/null)" = "$root" ]; then # a copied checkout unpacks anew
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Without apt the tests in Firefox need firefox on this machine." >&2
    exit 0
fi

packages() {
    # What an installation would add.
    apt-get --simulate --no-install-recommends install firefox-esr fonts-dejavu-core 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

download() {
    wanted=$(packages)
    # shellcheck disable=SC2086
    [ -n "$wanted" ] && (cd "$folder/packages" && apt-get -q download $wanted >/dev/null 2>&1)
}

echo "Unpacking Firefox into $folder (up to 120 MB to download, for the tests in a second browser)"
rm -rf "$folder"
mkdir -p "$folder/packages"
download || { apt-get update >/dev/null 2>&1 && download; } || {
    echo "Firefox could not be downloaded; tests that need it will say so." >&2
    rm -rf "$folder"
    exit 0
}
for package in "$folder"/packages/*.deb; do
    dpkg -x "$package" "$folder"
    rm "$package"
done
rmdir "$folder/packages"

cat >"$root/fonts.conf" <<XML
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir><dir>$root/usr/share/fonts</dir>
  <cachedir>$root/font-cache</cachedir>
</fontconfig>
XML
libraries=$(find "$root/usr/lib" "$root/lib" -name '*.so*' -path '*-linux-gnu*' -exec dirname {} + 2>/dev/null |
    sort -u | grep -E -e '-linux-gnu[^/]*(/nss|/pulseaudio)?$' | paste -sd: -)
cat >"$root/firefox" <<SCRIPT
#!/bin/sh
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export FONTCONFIG_FILE="$root/fonts.conf"
exec "$root/usr/lib/firefox-esr/firefox-esr" "\$@"
SCRIPT
chmod +x "$root/firefox"
echo "$root" >"$root/.complete"
