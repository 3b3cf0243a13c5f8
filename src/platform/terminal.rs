//! Input from the person at the terminal, and a line there that is rewritten.

use std::io::{BufRead, IsTerminal, Read, Write};

use zeroize::Zeroizing;

use crate::credential::redact::printable;
use crate::credential::secret::Secret;
use crate::error::{Error, Result};
use crate::platform::context::Context;
use crate::platform::signals;
use crate::platform::system::{self, MAX_TERMINAL_LINE_BYTES};

/// The longest line that is read.
const MAX_LINE_BYTES: u64 = 64 * 1024;

pub fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Replaces the last line of stderr by this one, if stderr is a terminal; returns whether it is.
pub fn rewrite_line(text: &str) -> bool {
    let mut stderr = std::io::stderr();
    // ECMA-48: back to the beginning of the line, and delete it.
    stderr.is_terminal() && write!(stderr, "\r\x1b[K{}", printable(text)).is_ok()
}

/// A line of stdin, without the blanks around it.
pub fn read_line() -> Result<Secret> {
    let stdin = std::io::stdin();
    let mut line = Zeroizing::new(String::new());
    // What stdin's own buffer has beyond this line is there for the next call.
    stdin.lock().take(MAX_LINE_BYTES).read_line(&mut line).map_err(cannot_read)?;

    if stdin.is_terminal() && line.len() >= MAX_TERMINAL_LINE_BYTES {
        return Err(Error::usage("the line is too long for a terminal")
            .because(format!("a terminal passes on {MAX_TERMINAL_LINE_BYTES} bytes at most"))
            .hint("put the line into a file, and append < FILE to the command"));
    }
    Ok(Secret::new(line.trim()))
}

/// The same, but a terminal does not show what is typed. The terminal's settings are restored when this
/// returns or a signal ends the process.
pub fn read_hidden_line(context: &Context) -> Result<Secret> {
    if is_terminal() {
        signals::end_on_signals_or_hangup(&context.signal_state)?;
    }
    system::hide_input(|before| {
        if let Ok(mut terminal) = context.signal_state.terminal.lock() {
            *terminal = Some(before);
        }
    })
    .map_err(cannot_read)?;

    let line = read_line();
    context.signal_state.show_input();
    line
}

fn cannot_read(why: std::io::Error) -> Error {
    Error::failed("cannot read stdin").because(why)
}
