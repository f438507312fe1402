# What .ci/run and .ci/nightly share: an environment of their own, and steps that stop at the first failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

scratch=$(mktemp -d "${TMPDIR:-/tmp}/streaming-nn-ci.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
trap 'exit 143' INT TERM # after the step under way: its environment must not vanish beneath it
bin=$scratch/venv/bin
unset PYTHONPATH VIRTUAL_ENV
unset PYTHONDONTWRITEBYTECODE # hundreds of tests start a process: each would compile all that it imports

UV=0.13.9 # resolves and installs in a third of pip's time
# A shared cache would grow by 2.3 GB a run (it keeps every build of PySpark); an empty one costs 10 s.
export UV_CACHE_DIR=$scratch/uv

# `set -e` does not hold inside a function called here: its commands are joined by `&&`.
step() {
  local name=$1 start=$SECONDS code=0
  shift
  echo "== $name"
  "$@" || code=$?
  echo "== $name: $((SECONDS - start)) s, exit $code"
  if [ "$code" -ne 0 ]; then exit "$code"; fi
}

environment() {
  python3 -m venv "$scratch/venv" &&
    "$bin/pip" install -q --disable-pip-version-check "uv==$UV"
}

install_locked() {
  "$bin/uv" pip install -q --python "$bin/python" --require-hashes -r requirements.lock &&
    "$bin/uv" pip install -q --python "$bin/python" --no-deps -e .
}

install_newest() {
  "$bin/uv" pip install -q --python "$bin/python" -e '.[test,lint]' ziglang --group site
}

install_mlflow() {
  "$bin/uv" pip install -q --python "$bin/python" -e '.[mlflow]' &&
    python3 -m venv --without-pip "$scratch/mlflow" && # the server's requirements are older than ours
    "$bin/uv" pip install -q --python "$scratch/mlflow/bin/python" mlflow
}

end() {
  echo "== total: $SECONDS s of $BUDGET s"
  if [ "$SECONDS" -gt "$BUDGET" ]; then exit 1; fi
}
