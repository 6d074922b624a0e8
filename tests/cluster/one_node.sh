#!/bin/sh
# A SLURM of one node on this machine, for tests: munge, slurmctld and slurmd of Debian's package slurm-wlm, as root.
#
#     apt-get install -y slurm-wlm && sh tests/cluster/one_node.sh && python -m pytest tests/experiments/test_slurm.py
#
# An /etc/slurm/slurm.conf that is there already is used as it is.
set -eu
host="$(hostname -s)"
for folder in /run/munge /var/log/munge /var/lib/munge /etc/munge; do
    mkdir -p "$folder"
done
[ -s /etc/munge/munge.key ] || head -c 1024 /dev/urandom >/etc/munge/munge.key
chown -R munge: /run/munge /var/log/munge /var/lib/munge /etc/munge
chmod 700 /etc/munge
chmod 400 /etc/munge/munge.key
pgrep -x munged >/dev/null || su -s /bin/sh munge -c /usr/sbin/munged
mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd
[ -s /etc/slurm/slurm.conf ] || cat >/etc/slurm/slurm.conf <<END
ClusterName=one
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
NodeName=$host CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
pgrep -x slurmctld >/dev/null || /usr/sbin/slurmctld
pgrep -x slurmd >/dev/null || /usr/sbin/slurmd
for _ in $(seq 40); do
    if sinfo --noheader --format=%T 2>/dev/null | grep -qE 'idle|mixed|allocated'; then
        exit 0
    fi
    sleep 0.5
done
sinfo
exit 1
