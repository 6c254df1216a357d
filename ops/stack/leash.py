"""Run as a file: tie this process to its parent, then become the given program.

    python -I -S leash.py PARENT_PID SIGNAL PROGRAM [ARGUMENT...]

The kernel keeps the tie across `exec` (prctl(2), PR_SET_PDEATHSIG), so the program dies with its parent
even when the parent is killed outright. It is set here, after the fork and outside the parent, because
Python code between fork and exec can deadlock in a parent that has threads. The kernel watches the
*thread* that forked: start programs from a thread that lives as long as they should.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, death_signal: int, argv: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the tie was made, so no signal will ever come
        sys.exit("the parent is gone")
    try:
        os.execv(argv[0], argv)
    except OSError as error:
        sys.exit(f"{argv[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
