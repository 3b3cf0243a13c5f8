"""Runs a command in a terminal of its own and types into it: terminal.py TYPED COMMAND [ARGUMENT…]

Waits until the command turns echo off (10 s at most), types TYPED (with Python's escapes), and prints as JSON:
the text that the terminal showed, whether echo was off, the exit code, and whether echo is on again.
"""

import json
import os
import pty
import select
import sys
import termios

typed = sys.argv[1].encode().decode("unicode_escape").encode()
# A shell would also keep the terminal open until the command ends.
terminal, keeper = pty.openpty()
child = os.fork()
if child == 0:
    os.setsid()
    # The first terminal that a session leader opens becomes its controlling terminal.
    opened = os.open(os.ttyname(keeper), os.O_RDWR)
    for stream in 0, 1, 2:
        os.dup2(opened, stream)
    os.execvp(sys.argv[2], sys.argv[2:])


def has_echo():
    return bool(termios.tcgetattr(keeper)[3] & termios.ECHO)


def read(seconds):
    shown = b""
    while select.select([terminal], [], [], seconds)[0]:
        shown += os.read(terminal, 4096)
    return shown


shown = b""
for _ in range(100):
    shown += read(0.1)
    if not has_echo():
        break
hidden = not has_echo()

os.write(terminal, typed)
ended, status = 0, 0
for _ in range(100):
    shown += read(0.1)
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        break
if not ended:
    os.kill(child, 9)

json.dump(
    {
        "shown": shown.decode(errors="replace"),
        "hidden": hidden,
        "code": os.waitstatus_to_exitcode(status) if ended else None,
        "echoes": has_echo(),
    },
    sys.stdout,
)
