# Sourced by run_all.sh and run_tests.sh: leaves in $PYTHON an interpreter that has requirements.txt installed.
# CAIRN_PYTHON=python3 uses that interpreter as it is instead of .venv, for environments of one's own.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" NO_ALBUMENTATIONS_UPDATE=1

# Freed memory is kept for the next batch: giving it back and faulting it in anew made torch three times slower on a CPU.
export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=2147483647 MALLOC_TOP_PAD_=209715200
# Torch's threads sleep while they wait: spinning, two of them are slower than one beside other processes.
export OMP_WAIT_POLICY=PASSIVE

prepare_environment() {
    if [ -n "${CAIRN_PYTHON:-}" ]; then
        PYTHON=$CAIRN_PYTHON
        command -v "$PYTHON" > /dev/null || { echo "CAIRN_PYTHON=$PYTHON is no command" >&2; exit 2; }
        return
    fi
    PYTHON=.venv/bin/python
    local wanted
    wanted=$(cksum < requirements.txt)
    [ -x "$PYTHON" ] && [ "$(cat .venv/requirements.cksum 2> /dev/null)" = "$wanted" ] && return
    local base
    for base in python3.13 python3.12 python3.11 python3 none; do
        "$base" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null && break
    done
    [ "$base" = none ] && { echo "Python 3.11 to 3.13 with its venv module is needed: install it and try again" >&2; exit 2; }
    echo "installing requirements.txt into .venv (once; several GB with the GPU libraries)" >&2
    [ -x "$PYTHON" ] || "$base" -m venv .venv || exit 2
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt 2> .venv/install.log \
        || { cat .venv/install.log >&2; echo "installation failed: the lines above say why" >&2; exit 2; }
    echo "$wanted" > .venv/requirements.cksum
}
prepare_environment
