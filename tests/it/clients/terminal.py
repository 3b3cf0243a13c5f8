"""Runs a command in a terminal of its own and types keys: terminal.py KEYS COMMAND [ARGUMENT…]

Waits until the command hides input, types KEYS (with Python's escapes), and prints a JSON object:
the terminal's output, whether input was hidden, the exit code, and whether input is shown afterwards.
"""

import json
import os
import pty
import select
import sys
import termios

keys = sys.argv[1].encode().decode("unicode_escape").encode()
# Like a shell, this process keeps the command's end of the terminal open.
terminal, command_end = pty.openpty()
child = os.fork()
if child == 0:
    os.setsid()
    # The first terminal that a session opens becomes its controlling terminal.
    opened = os.open(os.ttyname(command_end), os.O_RDWR)
    for stream in 0, 1, 2:
        os.dup2(opened, stream)
    os.execvp(sys.argv[2], sys.argv[2:])


def echoes():
    return bool(termios.tcgetattr(command_end)[3] & termios.ECHO)


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
os.write(terminal, keys)
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
