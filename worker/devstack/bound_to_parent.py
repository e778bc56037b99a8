"""Become a command that its parent cannot leave behind: run as a script, by its path, with nothing but the standard library.

Arguments: the parent's pid, the signal for when it dies, the user to run as or "-", the command. A script and not a `preexec_fn`, which can
deadlock in a parent that has threads; it replaces itself with the command, so the pid that the parent knows is the command's own.
"""

import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: str, death_signal: str, user: str, *command: str) -> None:
    if user != "-":
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)  # before prctl: a change of user forgets the signal
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != int(parent):  # it died before prctl could tell us
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  the command is the stack's own


if __name__ == "__main__":
    main(*sys.argv[1:])
