//! The whole terminal for a dashboard: taken, and given back however the command ends.
//!
//! While it is taken, what would be written to stderr goes to the dashboard as lines.

use std::fmt::Arguments;
use std::io::{self, IsTerminal as _, Stderr};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, Once, PoisonError};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

static TAKEN: AtomicBool = AtomicBool::new(false);
static LINES: Mutex<Option<Sender<String>>> = Mutex::new(None);
static GIVE_BACK_ON_PANIC: Once = Once::new();

/// A terminal that is drawn on as a whole.
pub type Screen = Terminal<CrosstermBackend<Stderr>>;

/// Whether there is a terminal that can be drawn on.
pub fn can_be_taken() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|kind| kind != "dumb")
}

/// Takes the terminal; lines for stderr arrive at the receiver until [`give_back`].
///
/// # Errors
/// If the terminal does not obey.
pub fn take() -> io::Result<(Screen, Receiver<String>)> {
    GIVE_BACK_ON_PANIC.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            report(info);
        }));
    });
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let screen = execute!(io::stderr(), EnterAlternateScreen, Clear(ClearType::All))
        .and_then(|()| Terminal::new(CrosstermBackend::new(io::stderr())))
        .inspect_err(|_| give_back())?;
    let (sender, lines) = channel();
    *LINES.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    Ok((screen, lines))
}

/// Gives the terminal back as it was; does nothing if it is not taken.
pub fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        // Nothing is left to tell the user where the terminal itself is gone.
        let _ = disable_raw_mode();
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    }
}

/// Whether the terminal is taken.
pub fn is_taken() -> bool {
    TAKEN.load(Ordering::SeqCst)
}

/// Hands a text for stderr to whoever took the terminal; false if nobody did.
pub fn divert(text: Arguments<'_>) -> bool {
    if !is_taken() {
        return false;
    }
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(lines) = lines.as_ref() else { return false };
    text.to_string().lines().all(|line| lines.send(line.to_owned()).is_ok())
}
