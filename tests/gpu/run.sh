#!/usr/bin/env bash
# Checks and measures a GPU on a machine with neither .NET nor a network.
#   tests/gpu/run.sh pack OUT.tar.xz    here: publishes the check program and packs it with the reference models, under 30 MB
#   ./run.sh [OPTIONS]                  there, in the unpacked folder: numerics of the kernels, reference models, shares of
#                                       bandwidth and peak, models of published sizes; JSON in gpu-checks.json (or --json=FILE)
# Options: --device=cuda|opencl  --small (processors)  --minutes=N  --only=kernels,golden,shares,models
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

pack() {
  local out=$1 root folder golden size
  root=$(cd "$here/../.." && pwd)
  golden=${GEMMASERVER_GOLDEN:-$root/tests/golden}
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # its value now: the variable is gone by then
  trap "rm -rf '$folder'" EXIT
  dotnet publish "$root/tests/GemmaServer.GpuChecks" -c Release -r linux-x64 --self-contained -o "$folder/gpu-checks/bin" --nologo -v quiet
  rm -f "$folder"/gpu-checks/bin/*.pdb "$folder"/gpu-checks/bin/*.xml
  mkdir -p "$folder/gpu-checks/golden"
  # What the reference tests read: checkpoints, prompts and expected numbers.
  (cd "$golden" && find tiny-* tok512 -type f \( -name '*.gguf' -o -name '*.json' -o -name '*.safetensors' \) -print0 | tar --null -T - -cf -) | tar -xf - -C "$folder/gpu-checks/golden"
  cp "$here/run.sh" "$folder/gpu-checks/run.sh"
  tar -C "$folder" -cf - gpu-checks | xz -T0 -9e > "$out"
  size=$(stat -c %s "$out")
  echo "$out: $((size / 1000)) kB"
  [ "$size" -lt 30000000 ] || { echo "$out is larger than 30 MB" >&2; exit 1; }
}

case ${1:-} in
  pack)
    [ $# -eq 2 ] || { echo "usage: run.sh pack OUT.tar.xz" >&2; exit 2; }
    pack "$2"
    ;;
  *)
    [ -x "$here/bin/GemmaServer.GpuChecks" ] || { echo "Unpack what 'run.sh pack' made, and start the run.sh in it." >&2; exit 2; }
    export GEMMASERVER_GOLDEN="$here/golden"
    case " $* " in *" --json="*) ;; *) set -- "$@" "--json=$here/gpu-checks.json" ;; esac
    exec "$here/bin/GemmaServer.GpuChecks" "$@"
    ;;
esac
