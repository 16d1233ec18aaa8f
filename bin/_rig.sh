# What only the tests need besides Python packages: a browser and one npm package.
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
