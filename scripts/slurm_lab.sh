#!/usr/bin/env bash
# A real Slurm on one machine (munged + slurmctld + one slurmd per virtual node,
# no systemd, no accounting database) for testing `hydra/launcher=submitit_slurm`
# and multi-node torchrun on a CI machine with root.
#
#   apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge   # Debian 12: Slurm 22.05.8
#   bash scripts/slurm_lab.sh start          # writes $SLURM_LAB_DIR (default ./.slurm), starts the daemons
#   eval "$(bash scripts/slurm_lab.sh env)"  # exports SLURM_CONF and PATH for sbatch/squeue/submitit
#   sinfo; srun -N2 bash -c 'echo $SLURMD_NODENAME'
#   python run.py hydra/launcher=submitit_slurm hydra.launcher.mem_gb=2 hydra.launcher.timeout_min=5 posenc=rope,alibi -m
#   bash scripts/slurm_lab.sh stop           # ends only the daemons started by start, by PID
#
# SLURM_LAB_NODES (default 2) virtual nodes share the machine; each has
# max(1, cores/nodes) CPUs.  Other users must be able to traverse the folder but
# not to write to it (munged runs as user munge).
#
set -euo pipefail

LAB=$(mkdir -p "${SLURM_LAB_DIR:-.slurm}" && cd "${SLURM_LAB_DIR:-.slurm}" && pwd)
HOST=$(hostname -s)
NODES=${SLURM_LAB_NODES:-2}
CPUS=$(( $(nproc) / NODES )); [ "$CPUS" -ge 1 ] || CPUS=1
# 90 % of MemTotal: slurmd drains a node with less memory than configured.
MEM=$(awk -v n="$NODES" '/MemTotal/ {print int($2/1024*0.9/n)}' /proc/meminfo)
CTLD_PORT=${SLURM_LAB_CTLD_PORT:-16817}
SLURMD_PORT=${SLURM_LAB_SLURMD_PORT:-16820}   # first of NODES consecutive ports

write_conf() {
  mkdir -p "$LAB"/{state,log,munge,bin}
  # 1. munge: its own key, socket and log in the lab folder, run as user munge
  #    (munged refuses sockets and logs in folders that other users can write to).
  if [ ! -s "$LAB/munge/munge.key" ]; then
    dd if=/dev/urandom of="$LAB/munge/munge.key" bs=1024 count=1 status=none
  fi
  chmod 0400 "$LAB/munge/munge.key"
  chown -R munge:munge "$LAB/munge"
  chmod 0711 "$LAB/munge"
  # 2. slurm.conf: no cgroups, no accounting, no task affinity, root as SlurmUser.
  cat > "$LAB/slurm.conf" <<CONF
ClusterName=lab
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$LAB/munge/munge.sock
CredType=cred/munge
StateSaveLocation=$LAB/state
SlurmdSpoolDir=$LAB/spool-%n
SlurmctldPidFile=$LAB/slurmctld.pid
SlurmdPidFile=$LAB/slurmd-%n.pid
SlurmctldLogFile=$LAB/log/slurmctld.log
SlurmdLogFile=$LAB/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MinJobAge=3600
SchedulerParameters=sched_min_interval=50000,batch_sched_delay=0
NodeName=n[1-$NODES] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=[$SLURMD_PORT-$((SLURMD_PORT + NODES - 1))] CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
PartitionName=lab Nodes=n[1-$NODES] Default=YES MaxTime=INFINITE State=UP
CONF
  # 3. submitit polls `sacct`, which needs the accounting database.  This
  #    stand-in answers the one query submitit makes from the controller's own
  #    memory (MinJobAge above keeps finished jobs there for an hour).
  cat > "$LAB/bin/sacct" <<'SACCT'
#!/usr/bin/env bash
# sacct -o JobID,State,NodeList --parsable2 -j ID [-j ID ...]
echo 'JobID|State|NodeList'
while [ $# -gt 0 ]; do
  if [ "$1" = -j ]; then
    scontrol -o show job "$2" 2>/dev/null | while IFS= read -r line; do
      get() { sed -n "s/.*[[:space:]]$1=\([^[:space:]]*\).*/\1/p" <<<" $line"; }
      id=$(get JobId); array=$(get ArrayJobId); task=$(get ArrayTaskId)
      [ -n "$array" ] && id="${array}_${task}"
      case $task in *[,-]*) id="${array}_[${task}]";; esac
      echo "$id|$(get JobState)|$(get NodeList)"
    done
    shift
  fi
  shift
done
SACCT
  chmod 0755 "$LAB/bin/sacct"
}

wait_for() { # wait_for SECONDS command...
  local n=$(( $1 * 5 )); shift
  for _ in $(seq "$n"); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  echo "timed out: $*" >&2; return 1
}

start() {
  write_conf
  export SLURM_CONF="$LAB/slurm.conf"
  runuser -u munge -- munged --force \
    --key-file="$LAB/munge/munge.key" --socket="$LAB/munge/munge.sock" \
    --pid-file="$LAB/munge/munged.pid" --log-file="$LAB/munge/munged.log" \
    --seed-file="$LAB/munge/munged.seed"
  wait_for 10 munge -S "$LAB/munge/munge.sock" -n
  slurmctld -f "$LAB/slurm.conf" -c
  for i in $(seq "$NODES"); do slurmd -f "$LAB/slurm.conf" -N "n$i"; done
  wait_for 20 scontrol ping
  # IDLE needs every slurmd's registration.
  wait_for 20 bash -c '[ "$(sinfo -h -N -t idle,mixed,alloc -o %N | sort -u | wc -l)" -eq '"$NODES"' ]'
  sinfo
}

stop() {
  for f in "$LAB"/slurmd-*.pid "$LAB/slurmctld.pid" "$LAB/munge/munged.pid"; do
    if [ -s "$f" ]; then kill "$(cat "$f")" 2>/dev/null || true; fi
  done
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  env) printf 'export SLURM_CONF=%q PATH=%q:$PATH\n' "$LAB/slurm.conf" "$LAB/bin" ;;
  *) echo "usage: $0 start|env|stop" >&2; exit 2 ;;
esac
