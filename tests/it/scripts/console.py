"""Runs a command in a terminal and types into it: console.py [TYPED AWAITED]… -- COMMAND [ARGUMENT…]

Waits for each AWAITED text (without colours and the like) a minute at most, and types each TYPED (with Python's
escapes) a second after the last one. Prints what the terminal showed; its exit code is the command's.
"""

import os
import pty
import re
import select
import sys
import time

split = sys.argv.index("--")
words = sys.argv[1:split]
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])

shown = b""


def shows(awaited):
    global shown
    end = time.monotonic() + 60
    while time.monotonic() < end:
        plain = re.sub(rb"\x1b\[[?0-9;]*[a-zA-Z]", b"", shown)
        if awaited and awaited in plain:
            shown = b""
            return True
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                text = os.read(terminal, 4096)
            except OSError:
                return False
            print(text.decode(errors="replace"), end="")
            shown += text
    return False


for typed, awaited in zip(words[::2], words[1::2]):
    if typed:
        time.sleep(1)
        os.write(terminal, typed.encode().decode("unicode_escape").encode())
    if awaited and not shows(awaited.encode()):
        os.kill(child, 9)
        sys.exit(f"the terminal did not show {awaited!r}")
shows(b"")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
