"""Submit the training of the benchmark by submitit: `with_submitit.py STEPS SECONDS SAVE_SECONDS EVERY`. Prints the job's id."""

import sys

import submitit
import training


class Training:
    """A function that can be called again after its checkpoint, as submitit wants it."""

    def __init__(self, steps, seconds, save_seconds, every):
        self.words = steps, seconds, save_seconds, every

    def __call__(self):
        """Train; submitit's own handler hears the signal."""
        training.train(*self.words)

    def checkpoint(self):
        """Save where the signal came, and say what to call in the next run."""
        training.save(self.words[2])
        training.note("ended")
        return submitit.helpers.DelayedSubmission(self)


if __name__ == "__main__":
    executor = submitit.SlurmExecutor(folder="submitit", max_num_timeout=20)
    executor.update_parameters(time=1, signal_delay_s=20, job_name="submitit", use_srun=True)
    print(executor.submit(Training(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))).job_id)
