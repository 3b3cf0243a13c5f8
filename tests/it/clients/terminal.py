"""Runs a command in a terminal of its own and types at it: terminal.py TYPED COMMAND [ARGUMENT…]

Waits for the command to fall silent, types TYPED (with Python's escapes), and prints as JSON what the
terminal showed, how the command ended, and whether the terminal shows what is typed afterwards.
"""

import json
import os
import pty
import select
import sys
import termios

typed = sys.argv[1].encode().decode("unicode_escape").encode()
# This side keeps the other one open, too, as a shell would.
terminal, keeper = pty.openpty()
child = os.fork()
if child == 0:
    os.setsid()
    # The first terminal that is opened becomes the controlling one.
    own = os.open(os.ttyname(keeper), os.O_RDWR)
    for stream in 0, 1, 2:
        os.dup2(own, stream)
    os.execvp(sys.argv[2], sys.argv[2:])


def echoes():
    return bool(termios.tcgetattr(keeper)[3] & termios.ECHO)


def read(seconds):
    shown = b""
    while select.select([terminal], [], [], seconds)[0]:
        shown += os.read(terminal, 4096)
    return shown


shown = b""
for _ in range(100):
    shown += read(0.1)
    if not echoes():
        break
hidden = not echoes()
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
        "echoes": echoes(),
    },
    sys.stdout,
)
