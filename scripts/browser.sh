#!/bin/sh
# Unpacks a browser of Debian's into a folder, without installing anything: browser.sh chromium|firefox FOLDER
# The browser tests start FOLDER/chromium or FOLDER/firefox. Where the machine has its own, that is used; where
# there is no apt, or no network, the tests say what they leave out (in CI that is a failure).
set -eu

browser=$1 folder=$2
case $browser in
chromium) program=chromium/chromium other=chromium-browser size=210 ;;
firefox) program=firefox-esr/firefox-esr other=firefox-esr size=120 ;;
*)
    echo "which browser: chromium or firefox?" >&2
    exit 2
    ;;
esac
if command -v "$browser" >/dev/null || command -v "$other" >/dev/null; then
    exit 0
fi
mkdir -p "$folder"
root=$(cd "$folder" && pwd)
if [ "$(cat "$root/.complete" 2>/dev/null)" = "$root" ]; then # a copied checkout unpacks anew
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "Without apt the browser tests need $browser on this machine." >&2
    exit 0
fi

choose() {
    # The one without windows, where Debian has it, takes less than half of the browser's own CPU.
    if [ "$browser" = chromium ] && apt-cache show chromium-headless-shell >/dev/null 2>&1; then
        program=chromium/chromium-headless-shell
    fi
}

packages() {
    # What an installation would add.
    apt-get --simulate --no-install-recommends install "${program#*/}" fonts-dejavu-core 2>/dev/null |
        sed -n 's/^Inst \([^ ]*\).*/\1/p'
}

download() {
    choose
    wanted=$(packages)
    # shellcheck disable=SC2086
    [ -n "$wanted" ] && (cd "$folder/packages" && apt-get -q download $wanted >/dev/null 2>&1)
}

echo "Unpacking $browser into $folder (up to $size MB to download, for the browser tests)"
rm -rf "$folder"
mkdir -p "$folder/packages"
download || { apt-get update >/dev/null 2>&1 && download; } || {
    echo "$browser could not be downloaded; tests that need it will say so." >&2
    rm -rf "$folder"
    exit 0
}
for archive in "$folder"/packages/*.deb; do
    dpkg -x "$archive" "$folder"
    rm "$archive"
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
cat >"$root/$browser" <<SCRIPT
#!/bin/sh
export LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export FONTCONFIG_FILE="$root/fonts.conf"
exec "$root/usr/lib/$program" "\$@"
SCRIPT
chmod +x "$root/$browser"
echo "$root" >"$root/.complete"
