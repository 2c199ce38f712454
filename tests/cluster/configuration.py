"""The configuration of the lab's Slurm: what clusters run, at the speed of tests."""

from __future__ import annotations

from pathlib import Path

NODES = ("n1", "n2", "n3")
_SLURMD_PORT = 7001

_SLURM_CONF = """\
ClusterName=lab
SlurmctldHost=lab(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd-%n.pid
SlurmctldPort=6817
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
FirstJobId={first_job_id}

# what clusters run: only the batch shell and the tasks of steps hear a SIGTERM
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup
KillWait=20
MessageTimeout=10
SlurmdTimeout={slurmd_timeout}
SlurmctldTimeout=60
MinJobAge={min_job_age}
JobRequeue=1

# many small jobs at once on nodes that claim to be large
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerNode=2000
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
Licenses=lic:1000

{accounting}
JobAcctGatherType=jobacct_gather/none

{nodes}
PartitionName=batch Nodes=n[1-2] Default=YES PriorityTier=1 MaxTime=INFINITE DefaultTime=30
PartitionName=requeue0 Nodes=n3 PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 DefaultTime=30
PartitionName=requeue10 Nodes=n3 PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 DefaultTime=30
PartitionName=cancel0 Nodes=n3 PriorityTier=1 PreemptMode=CANCEL GraceTime=0 DefaultTime=30
PartitionName=cancel10 Nodes=n3 PriorityTier=1 PreemptMode=CANCEL GraceTime=10 DefaultTime=30
PartitionName=prio Nodes=n3 PriorityTier=10 PreemptMode=OFF DefaultTime=5
PartitionName=wide Nodes=n[1-3] PriorityTier=1 DefaultTime=5
"""

ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStorageUser=root
AccountingStoreFlags=job_script"""
_NO_ACCOUNTING = "AccountingStorageType=accounting_storage/none"

_SLURMDBD_CONF = """\
AuthType=auth/munge
DbdHost=lab
DbdAddr=127.0.0.1
SlurmUser=root
PidFile={root}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageUser=slurm
StorageLoc=slurm
"""

_CGROUP_CONF = """\
CgroupAutomount=no
CgroupPlugin=cgroup/v1
ConstrainCores=no
ConstrainRAMSpace={memory}
ConstrainSwapSpace=no
"""

_DATABASE = "CREATE USER IF NOT EXISTS 'slurm'@'%';\nGRANT ALL ON *.* TO 'slurm'@'%';\nFLUSH PRIVILEGES;\n"


def write(root: Path, first_job_id: int, slurmd_timeout_s: int, min_job_age_s: int, accounting: bool) -> None:
    """Write the configuration of one lab below `root`."""
    for folder in ("etc", "database", "state", "run", "log", *(f"spool/{node}" for node in NODES)):
        (root / folder).mkdir(parents=True)
    etc = root / "etc"
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={_SLURMD_PORT + place} CPUs=64 RealMemory=256000 "
        f"Gres=gpu:8 Feature=l4"
        for place, node in enumerate(NODES)
    )
    facts = {"root": root, "first_job_id": first_job_id, "nodes": nodes, "slurmd_timeout": slurmd_timeout_s}
    facts |= {"min_job_age": min_job_age_s, "accounting": ACCOUNTING if accounting else _NO_ACCOUNTING}
    (etc / "slurm.conf").write_text(_SLURM_CONF.format(**facts))
    (etc / "slurmdbd.conf").write_text(_SLURMDBD_CONF.format(root=root))
    (etc / "slurmdbd.conf").chmod(0o600)
    memory = "yes" if Path("/sys/fs/cgroup/memory").is_dir() else "no"
    (etc / "cgroup.conf").write_text(_CGROUP_CONF.format(memory=memory))
    for number in range(8):
        (etc / f"gpu{number}").touch()
    (etc / "gres.conf").write_text(f"NodeName=n[1-3] Name=gpu File={etc}/gpu[0-7]\n")
    (etc / "database.sql").write_text(_DATABASE)
    (etc / "munge.key").write_bytes(bytes(range(256)) * 4)
    (etc / "munge.key").chmod(0o600)
