# What only the tests need besides Python packages: a browser, one npm package, proxies and checkers.
# A test that misses its part is skipped and says why; with CI=true it fails (tests/support/needs.py).

installed_browser() {
    for candidate in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
        "/Applications/Chromium.app/Contents/MacOS/Chromium"; do
        if [ -n "$candidate" ] && have "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    .venv/bin/python -m tests.support.browser
}

apt_browser() {
    [ "$(id -u)" = 0 ] && have apt-get || return 1
    say "Installing a browser for the tests: apt-get install chromium"
    apt-get install -y -qq --no-install-recommends chromium >&2 && return
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends chromium >&2
}

own_browser() {
    say "Fetching a browser for the tests: playwright install chromium"
    .venv/bin/python -m playwright install chromium >&2
}

provide_browser() {
    if CHROMIUM=$(installed_browser); then
        export CHROMIUM
        return
    fi
    unset CHROMIUM
    if { apt_browser || own_browser; } && CHROMIUM=$(installed_browser); then
        export CHROMIUM
        return
    fi
    unset CHROMIUM
    say "No browser found and none could be installed: the browser tests will tell."
}

provide_node_packages() {
    stamp=.cache/node/.installed
    wanted=$(cat tests/node/package.json tests/node/package-lock.json | cksum)
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    if ! have npm || ! have node; then
        say "No npm found: the tests against JavaScript receivers will tell."
        return
    fi
    say "Installing the tests' npm packages into .cache/node"
    mkdir -p .cache/node
    cp tests/node/package.json tests/node/package-lock.json .cache/node/
    if (cd .cache/node && npm ci --silent --ignore-scripts --no-audit --no-fund >&2); then
        printf '%s\n' "$wanted" >"$stamp"
    else
        say "npm could not install them: the tests against JavaScript receivers will tell."
    fi
}

fetch_package() {
    apt-get download -qq "$1" >&2 && return
    [ "$(id -u)" = 0 ] && apt-get update -qq >&2 && apt-get download -qq "$1" >&2
}

# Unpacked and not installed: nothing is started, no root is needed, the machine stays as it is.
provide_programs() {
    folder=.cache/programs
    wanted=""
    have nginx || [ -x /usr/sbin/nginx ] || [ -x $folder/usr/sbin/nginx ] || wanted="$wanted nginx"
    have caddy || [ -x $folder/usr/bin/caddy ] || wanted="$wanted caddy"
    have promtool || [ -x $folder/usr/bin/promtool ] || wanted="$wanted prometheus"
    have systemd-analyze || [ -x $folder/usr/bin/systemd-analyze ] || wanted="$wanted systemd"
    [ -n "$wanted" ] || return 0
    if ! have apt-get || ! have dpkg-deb; then
        say "Not found and not to be had here:$wanted. The tests of deploy/ will tell."
        return 0
    fi
    say "Getting for the tests of deploy/:$wanted"
    mkdir -p $folder/packages
    for package in $wanted; do
        if (cd $folder/packages && fetch_package "$package"); then
            dpkg-deb -x $folder/packages/"$package"_*.deb $folder
        else
            say "$package could not be had: the tests of deploy/ will tell."
        fi
    done
    rm -r $folder/packages
}
