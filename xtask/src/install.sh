# Installs Debian packages, and leaves none of the services that they bring running or enabled.
#
# usage:  sh install.sh PACKAGE…      as root, with apt-get
#
# Debian starts and enables the services of a package. So a Redis server would listen on port 6379 from now on, also after the next boot.
# Every package asks the program policy-rc.d whether it may start its services. This script puts a policy-rc.d there that says no, and puts
# back the earlier one at the end, also when this script is interrupted. Services that ran before go on running.

set -eu

policy=/usr/sbin/policy-rc.d
aside=/usr/sbin/policy-rc.d.before-larder
mark='# made by larder, and gone in a moment'

restore() {
    if [ -e "$aside" ]; then
        mv -f "$aside" "$policy"
    elif [ -e "$policy" ] && grep -qxF "$mark" "$policy"; then
        rm -f "$policy"
    fi
}

# Clean up after a run that was killed.
restore
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

if [ -e "$policy" ]; then
    mv "$policy" "$aside"
fi
printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends "$@"

for package in "$@"; do
    for service in $(dpkg -L "$package" | sed -n 's|^.*/systemd/system/\([^/@]*\)\.service$|\1|p; s|^/etc/init\.d/||p' | sort -u); do
        if command -v systemctl >/dev/null; then
            systemctl disable "$service" >/dev/null 2>&1 || true
        fi
        if [ -e "/etc/init.d/$service" ] && command -v update-rc.d >/dev/null; then
            update-rc.d "$service" disable >/dev/null 2>&1 || true
        fi
        echo "$package brings the service $service: it is not started, and disabled"
    done
done
