//! The terminal that the full-screen view takes over, and gives back whatever happens.

use std::{
    io::{self, Stdout},
    thread,
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};
use tokio::sync::mpsc;

use super::{draw::draw, model::Model};

/// How often the keyboard's thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// What a person asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To leave.
    Leave,
    /// To have everything drawn anew: the window has another size.
    Redraw,
}

/// The taken terminal; given back when dropped.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    pub(super) model: Model,
    asked: mpsc::Receiver<Asked>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn take(model: Model) -> io::Result<Self> {
        // Also gives it back when the program panics.
        let terminal = ratatui::try_init()?;
        let (ask, asked) = mpsc::channel(8);
        thread::Builder::new().name("keyboard".into()).spawn(move || listen(&ask))?;
        Ok(Self { terminal, model, asked })
    }

    pub(super) fn draw(&mut self) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, &self.model))?;
        Ok(())
    }

    /// The next thing that a person asks for.
    pub(super) async fn asked(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            // Without a keyboard nobody can ask.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn listen(ask: &mpsc::Sender<Asked>) {
    while !ask.is_closed() {
        let Ok(true) = event::poll(LOOK) else { continue };
        let asked = match event::read() {
            Ok(event) => meaning(&event),
            Err(_) => return,
        };
        if let Some(asked) = asked
            && ask.blocking_send(asked).is_err()
        {
            return;
        }
    }
}

/// What a key means.
fn meaning(event: &Event) -> Option<Asked> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => match (key.code, key.modifiers) {
            (KeyCode::Char('q') | KeyCode::Esc, _) => Some(Asked::Leave),
            (KeyCode::Char('c'), KeyModifiers::CONTROL) => Some(Asked::Leave),
            _ => None,
        },
        Event::Resize(..) => Some(Asked::Redraw),
        _ => None,
    }
}
