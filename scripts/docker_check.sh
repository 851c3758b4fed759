#!/usr/bin/env bash
# Builds the Dockerfile and tests the image without network, on a Debian machine without a container
# engine: buildah with chroot isolation, on a base image made by debootstrap. Run as root:
#
#   apt-get install -y --no-install-recommends buildah debootstrap
#   make docker-check                     or: scripts/docker_check.sh STEP ...
#
# base      makes a base image with Debian's Python 3, like python:*-slim (no make, git or compiler)
# build     builds every layer of the Dockerfile, with the pinned packages
# edit      rebuilds after a code edit and checks that no package is installed again
# test      runs `make test` in the image, as its unprivileged user, without network
# train     runs `make train && make eval` in the image on its bundled data, without network
# notebook  builds the notebook image and checks that its server rejects requests without the token
#
# CONTEXT         build context; default: this repository
# DOCKER_LAB_DIR  folder of base and images (about 5 GB); delete it to clean up
# TORCH_INDEX     build argument, if set; empty if the host's pip settings find a torch wheel
#
# The host's pip settings (index, find-links, certificates, from its files or PIP_*) are mounted
# into the build with the paths they name; only empty mount points remain in the image.
set -euo pipefail

HERE=$(cd "$(dirname "$0")/.." && pwd)
CONTEXT=${CONTEXT:-$HERE}
LAB=${DOCKER_LAB_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/micro-transformer-docker}
SUITE=${BASE_SUITE:-bookworm}
BASE=localhost/python-slim:check
IMAGE=localhost/micro-transformer
B=(buildah --root "$LAB/store" --runroot "$LAB/run" --storage-driver "${BUILD_STORAGE_DRIVER:-overlay}")
export BUILDAH_ISOLATION=chroot
container=

main() {
  local tool
  for tool in buildah debootstrap; do
    command -v "$tool" >/dev/null || stop "no $tool here; apt-get install -y buildah debootstrap"
  done
  [ "$(id -u)" = 0 ] || stop "needs root, for debootstrap and chroot"
  mkdir -p "$LAB"
  trap tidy EXIT
  [ $# -gt 0 ] || set -- base build edit test train notebook
  local step
  for step; do
    case $step in
      base | build | edit | test | train | notebook) timed "step_$step" ;;
      *) stop "$step: must be one of base, build, edit, test, train, notebook" ;;
    esac
  done
}

stop() { echo "error: docker-check: $1" >&2; exit 2; }

timed() { # runs the step and prints its duration in seconds
  local start=$SECONDS
  "$1"
  printf 'docker-check: %-9s ok  %4d s\n' "${1#step_}" $((SECONDS - start))
}

tidy() { # removes the working container, which would keep its overlay mounted
  [ -z "$container" ] || "${B[@]}" rm "$container" >/dev/null
}

size() { "${B[@]}" images --noheading --format '{{.Size}}' "$1"; }

step_base() {
  if ! "${B[@]}" inspect --type image "$BASE" >/dev/null 2>&1; then
    make_rootfs
    container=$("${B[@]}" from scratch)
    "${B[@]}" copy -q "$container" "$LAB/rootfs" / >/dev/null
    "${B[@]}" config --env LANG=C.UTF-8 --cmd python3 \
      --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    "${B[@]}" commit -q "$container" "$BASE" >/dev/null
    tidy
    container=
  fi
  echo "base $(size "$BASE")"
}

make_rootfs() {
  [ ! -e "$LAB/rootfs/.made" ] || return 0
  local mirror # the host's Debian mirror
  mirror=$(grep -rhoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d \
    2>/dev/null | head -n1 | tr -d ' ' || true)
  rm -rf "$LAB/rootfs"
  debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
    "$SUITE" "$LAB/rootfs" ${mirror:+"$mirror"} >"$LAB/debootstrap.log"
  rm -rf "$LAB"/rootfs/var/cache/apt/archives/*.deb "$LAB"/rootfs/var/lib/apt/lists/*
  ln -sf python3 "$LAB/rootfs/usr/bin/python" # as python:*-slim has it
  rm -f "$LAB"/rootfs/usr/lib/python3*/EXTERNALLY-MANAGED
  touch "$LAB/rootfs/.made"
}

pip_settings() { # writes pip.conf; prints -v options for it and for the paths it names
  python3 - "$LAB/pip.conf" <<'PYTHON'
import os, pathlib, subprocess, sys

KEYS = ("index-url", "extra-index-url", "find-links", "cert", "trusted-host", "default-timeout")
listed = subprocess.run(
    (sys.executable, "-m", "pip", "config", "list"), capture_output=True, text=True, check=True
).stdout.splitlines()
settings = {}
for prefix in ("global.", "install.", ":env:."):  # in order of increasing precedence
    for line in listed:
        key, _, value = line.partition("=")
        if key.startswith(prefix) and key.removeprefix(prefix) in KEYS:
            settings[key.removeprefix(prefix)] = value.strip("'\"").replace("\\n", " ")
lines = [f"{key} = {value}" for key, value in settings.items()]
pathlib.Path(sys.argv[1]).write_text("\n".join(("[global]", *lines, "")))
# a file: index URL ends in /simple and links to sibling folders, so its parent is mounted
named = {w.removeprefix("file://") for v in settings.values() for w in v.split()}
paths = {os.path.dirname(p) if p.endswith("/simple") else p for p in named if p.startswith("/")}
for path in sorted(p for p in paths if os.path.exists(p)):
    print("-v", f"{path}:{path}:ro", sep="\n")
print("-v", f"{sys.argv[1]}:/etc/pip.conf:ro", sep="\n")
PYTHON
}

build() { # build CONTEXT TARGET: builds the image, with its log in $LAB/build.log
  local mounts
  mapfile -t mounts < <(pip_settings)
  "${B[@]}" bud --layers --network host --target "$2" --build-arg BASE_IMAGE="$BASE" \
    ${TORCH_INDEX+--build-arg TORCH_INDEX="$TORCH_INDEX"} "${mounts[@]}" \
    -f "$1/Dockerfile" -t "$IMAGE:$2" "$1" >"$LAB/build.log" 2>&1 ||
    { tail -n 40 "$LAB/build.log" >&2; exit 1; }
}

step_build() {
  build "$CONTEXT" lab
  echo "image $(size "$IMAGE:lab")"
}

step_edit() {
  local copy="$LAB/edited"
  rm -rf "$copy"
  mkdir "$copy"
  tar -C "$CONTEXT" --exclude-vcs --exclude=./.venv --exclude=./multirun --exclude=./checkpoints \
    --exclude=./data/prepared --exclude=./data/raw -cf - . | tar -C "$copy" -xf -
  echo '# an edit' >>"$copy/run.py"
  build "$copy" lab
  rm -rf "$copy"
  if grep -A1 -E 'STEP.*(apt-get|pip install|make .venv)' "$LAB/build.log" |
    grep -vE 'STEP|^--$' | grep -qv 'Using cache'; then
    stop "an edit of run.py installed packages again, see $LAB/build.log"
  fi
  container=$("${B[@]}" from "$IMAGE:lab")
  "${B[@]}" run "$container" -- tail -n1 run.py | grep -q 'an edit' || stop "the edit is not in the image"
  tidy
  container=
  build "$CONTEXT" lab
}

inside() { # inside TARGET COMMAND: runs it in a new container with a loopback network only
  container=$("${B[@]}" from "$IMAGE:$1")
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --net sh -c 'ip link set lo up && exec "$@"' sh \
    "${B[@]}" run "$container" -- sh -c "$NO_ROOT_NO_NETWORK && $2"
  tidy
  container=
}

# shellcheck disable=SC2016  # expanded in the image
NO_ROOT_NO_NETWORK='test "$(id -u)" != 0 && python3 -c "
import socket
try:
    socket.create_connection((\"1.1.1.1\", 53), 3)
except OSError:
    raise SystemExit(0)
raise SystemExit(\"error: docker-check: there is a network\")"'

step_test() { inside lab 'make test'; }

step_train() { inside lab 'make train && make eval && du -sh .venv .'; }

step_notebook() {
  build "$CONTEXT" notebook
  echo "notebook image $(size "$IMAGE:notebook")"
  local command
  command=$("${B[@]}" inspect --type image --format '{{range .OCIv1.Config.Cmd}}{{.}} {{end}}' "$IMAGE:notebook")
  inside notebook "$command >server.log 2>&1 & python3 -c '$ASK_WITH_AND_WITHOUT_TOKEN'"
}

ASK_WITH_AND_WITHOUT_TOKEN='
import re, sys, time, urllib.error, urllib.request

def status(address):
    try:
        return urllib.request.urlopen(address, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code

for _ in range(60):
    token = re.search("token=([0-9a-f]{32,})", open("server.log").read())
    if token:
        break
    time.sleep(1)
contents = "http://127.0.0.1:8888/api/contents"
got = status(contents), status(contents + "?token=" + token[1])
print("notebook server without and with its token:", *got)
sys.exit(got != (403, 200))
'

main "$@"
