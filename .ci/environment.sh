# Sourced by run_all.sh and run_tests.sh: leaves in $PYTHON an interpreter that has the given requirement files installed.
#     . .ci/environment.sh requirements.txt [requirements-test.txt]
# CAIRN_PYTHON=python3 uses that interpreter as it is instead of .venv, for environments of one's own.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" NO_ALBUMENTATIONS_UPDATE=1

# Settings of the C libraries for speed on a CPU; no answer depends on them.
# Waiting threads sleep: if they spin, two of torch's are slower than one beside other processes.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
# glibc keeps freed memory for the next batch: returning it to the system and faulting it in again made networks up to
# three times slower. Bytes: blocks below 1 GiB come from the heap, which is hardly ever trimmed and grows by 200 MiB.
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-$((1 << 30))}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-$(((1 << 31) - 1))}"
export MALLOC_TOP_PAD_="${MALLOC_TOP_PAD_:-$((200 << 20))}"

requirements_digest() {  # of one file, and of where .venv is: its scripts name that folder
    echo "$(cksum < "$1") $PWD"
}

make_venv() {
    local base
    for base in python3.13 python3.12 python3.11 python3 none; do
        "$base" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null && break
    done
    [ "$base" = none ] && { echo "Python 3.11 to 3.13 with its venv module is needed: install it and try again" >&2; exit 2; }
    "$base" -m venv .venv || exit 2
}

prepare_environment() {
    if [ -n "${CAIRN_PYTHON:-}" ]; then
        PYTHON=$CAIRN_PYTHON
        command -v "$PYTHON" > /dev/null || { echo "CAIRN_PYTHON=$PYTHON is no command" >&2; exit 2; }
        return
    fi
    PYTHON=.venv/bin/python
    # Modules compile when they are first imported: three quarters never are. Where this is set, as in many containers, every
    # process would compile torch anew.
    unset PYTHONDONTWRITEBYTECODE
    local file stale=() arguments=()
    for file in "$@"; do
        [ -x "$PYTHON" ] && [ "$(cat ".venv/$file.cksum" 2> /dev/null)" = "$(requirements_digest "$file")" ] && continue
        stale+=("$file") arguments+=(-r "$file")
    done
    [ ${#stale[@]} = 0 ] && return
    echo "installing ${stale[*]} into .venv (several GB the first time, with the GPU libraries)" >&2
    [ -x "$PYTHON" ] || make_venv
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-compile "${arguments[@]}" 2> .venv/install.log \
        || { cat .venv/install.log >&2; echo "installation failed: the lines above say why" >&2; exit 2; }
    local packages
    packages=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    pwd > "$packages/cairn.pth"  # python stages/10_… finds pipeline/
    for file in "${stale[@]}"; do requirements_digest "$file" > ".venv/$file.cksum"; done
}
prepare_environment "$@"
