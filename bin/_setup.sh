# Shared by bin/run and bin/test, which have already gone to the project's root.
# What is being done is said on standard error: standard output belongs to the program.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$@"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# A version manager may put a command on PATH that answers "not installed", so each one is asked.
new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in python3.14 python3.13 python3.12 python3.11 python3 python; do
        if have "$candidate" && new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

make_venv() {
    if [ -x .venv/bin/python ] && new_enough .venv/bin/python; then
        return
    fi
    rm -rf .venv
    if python=$(find_python); then
        say "Making .venv with $python"
        if have uv; then
            uv venv --quiet --seed --python "$python" .venv && return
        fi
        "$python" -m venv .venv >&2 && return
        rm -rf .venv
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        die "Python $version cannot make a virtual environment. On Debian and Ubuntu:" \
            "  sudo apt-get install python$version-venv"
    fi
    if have uv; then
        say "Making .venv with a Python that uv fetches"
        uv venv --quiet --seed --python '>=3.11' .venv && return
    fi
    say "Signup needs Python 3.11 or newer."
    say "  Debian, Ubuntu: sudo apt-get install python3 python3-venv"
    say "  macOS:          brew install python@3.13"
    die "  anywhere:       install uv, then start this again"
}

# The checksum only tells whether the files changed; the hashes inside them guard what is fetched.
fingerprint() {
    {
        .venv/bin/python -V
        cat "$@"
    } | cksum
}

pip_install() {
    if have uv && uv pip install --quiet --python .venv/bin/python --require-hashes "$@"; then
        return
    fi
    .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip --upgrade >/dev/null
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes "$@" >&2
}

# install_packages NAME FILE...: the files' packages are in .venv, and a stamp says so.
install_packages() {
    name=$1
    shift
    stamp=.venv/.installed-$name
    wanted=$(fingerprint "$@")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    say "Installing packages into .venv: $*"
    # The arguments become "-r FILE -r FILE".
    for file in "$@"; do
        set -- "$@" -r "$file"
        shift
    done
    pip_install "$@" || die "Some packages could not be installed; see the lines above."
    printf '%s\n' "$wanted" >"$stamp"
}
