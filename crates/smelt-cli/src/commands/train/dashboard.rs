//! `smelt train --tui`: the run as a dashboard over the whole terminal.
//!
//! Draws on a thread and at a pace of its own; training only writes down what happened.

mod board;
mod curve;
mod view;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use smelt_backend::{Name, memory};

use self::board::Board;
use self::view::Moment;
use crate::context::Context;
use crate::terminal::{self, Screen};
use crate::training::{RunFacts, TrainEvent};

/// Ten pictures per second at most.
const FRAME: Duration = Duration::from_millis(100);

/// A dashboard on the terminal, until it is dropped.
pub struct Dashboard {
    board: Arc<Mutex<Board>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dashboard {
    /// Takes the terminal and shows the run that `facts` describe.
    ///
    /// # Errors
    /// If the terminal does not obey.
    pub fn open(facts: &RunFacts, backend: Option<Name>, context: &Context) -> io::Result<Self> {
        let (screen, lines) = terminal::take()?;
        let board = Arc::new(Mutex::new(Board::new(facts, backend)));
        let closing = Arc::new(AtomicBool::new(false));
        let show =
            Show { board: Arc::clone(&board), lines, context: context.clone(), started: Instant::now() };
        let stop = Arc::clone(&closing);
        let thread =
            thread::Builder::new().name("dashboard".to_owned()).spawn(move || show.run(screen, &stop));
        let thread = thread.inspect_err(|_| terminal::give_back())?;
        Ok(Self { board, closing, thread: Some(thread) })
    }

    /// Takes note of an event.
    pub fn tell(&self, event: &TrainEvent<'_>) {
        locked(&self.board).tell(event);
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported, and the terminal is given back either way.
            let _ = thread.join();
        }
        terminal::give_back();
    }
}

fn locked(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the drawing thread holds.
struct Show {
    board: Arc<Mutex<Board>>,
    lines: Receiver<String>,
    context: Context,
    started: Instant,
}

impl Show {
    fn run(&self, mut screen: Screen, closing: &AtomicBool) {
        // Whoever panics or leaves at once gives the terminal back before.
        while !closing.load(Ordering::SeqCst) && terminal::is_taken() {
            let moment = Moment {
                elapsed_seconds: self.started.elapsed().as_secs_f64(),
                memory_bytes: memory::process_current_bytes(),
                peak_memory_bytes: memory::process_peak_bytes(),
                stopping: self.context.interrupt.requested(),
            };
            let board = {
                let mut board = locked(&self.board);
                self.lines.try_iter().for_each(|line| board.log(line));
                // A copy: training does not wait for a slow terminal.
                board.clone()
            };
            let drawn = screen.draw(|frame| view::draw(frame, &board, &moment)).map(drop);
            if drawn.and_then(|()| self.listen(closing)).is_err() {
                // No keys, or no picture: the run goes on, and may have more luck with the next.
                thread::sleep(FRAME);
            }
        }
    }

    /// Heeds the keyboard until the next picture is due.
    fn listen(&self, closing: &AtomicBool) -> io::Result<()> {
        let due = Instant::now() + FRAME;
        while !closing.load(Ordering::SeqCst) {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() || !event::poll(left)? {
                break;
            }
            if let Event::Key(key) = event::read()?
                && asks_to_stop(&key)
            {
                self.context.interrupt.request(self.context.output);
            }
        }
        Ok(())
    }
}

/// `q`, or Ctrl-C, which is a key like others while the terminal is taken.
fn asks_to_stop(key: &KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (key.code == KeyCode::Char('q') || control_c)
}
