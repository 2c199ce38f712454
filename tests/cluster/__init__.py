"""A real Slurm for the tests, in namespaces of its own: `python -m tests.cluster up|down|shell`.

Three slurmd, slurmctld, slurmdbd with MariaDB, and munge run on this machine as children of one process that is pid 1 of a pid
namespace, with a network and mounts of their own. So ports and folders never collide with another one's, and when that process
ends, the kernel ends every job and daemon with it.
"""
