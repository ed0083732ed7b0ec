//! Moves, and what they are called in a trace.

use std::fmt;

use crate::state::{COLLUDER, MEMBERS, Shown, State};

/// What happened: to whom, in which of its lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) who: usize,
    pub(crate) life: usize,
    pub(crate) what: What,
}

/// See the text that [`Move`] prints.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Deals(Shown),
    Receives(Shown),
    Masks,
    MasksAgain,
    Votes(Shown),
    Answers(Shown),
    Crashes,
    CrashesAndBeginsAgain { dead_model: bool },
    CrashesAndResumes,
    NextAttempt(State),
}

const NAMES: [&str; MEMBERS] = ["A", "B", "C", "colluder"];

/// Members by name, with a number where it is not their first word of the kind.
struct Words(Shown);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, member) in self.0.members().enumerate() {
            let number = self.0.of(member);
            // There is one crash, so a member's second vector is under its first or its second keys, never both.
            let number = if member == COLLUDER { number } else { number.min(2) };
            let mark = if number == 1 { String::new() } else { format!("({number})") };
            write!(f, "{}{}{mark}", if index == 0 { "" } else { ", " }, NAMES[member])?;
        }
        Ok(())
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = format!("{}{}", NAMES[self.who], if self.life == 1 { "(2)" } else { "" });
        match self.what {
            What::Deals(shown) => write!(f, "{who} is shown the adverts of {} and deals", Words(shown)),
            What::Receives(shown) => write!(f, "{who} is shown the deals of {}", Words(shown)),
            What::Masks => write!(f, "{who} sends its vector"),
            What::MasksAgain => write!(f, "{who} trains again and sends a second vector"),
            What::Votes(shown) => write!(f, "{who} is shown the headers of {} and votes", Words(shown)),
            What::Answers(shown) => write!(f, "{who} answers for the survivors {}", Words(shown)),
            What::Crashes => write!(f, "{who} crashes, and sits the attempt out"),
            What::CrashesAndBeginsAgain { dead_model } => {
                write!(f, "{who} crashes, and begins the attempt again with fresh keys{}", model(dead_model))
            }
            What::CrashesAndResumes => write!(f, "{who} crashes, and goes on from secrets on its disk"),
            What::NextAttempt(next) => {
                write!(f, "the next attempt is announced; it is joined by{}", Joined(&next))
            }
        }
    }
}

/// Who began an attempt, and from which model.
pub(crate) struct Joined<'a>(pub(crate) &'a State);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.all().try_for_each(|(who, _, life)| write!(f, " {}{}", NAMES[who], model(life.dead_model)))
    }
}

fn model(dead: bool) -> &'static str {
    if dead { " (shown a dead model)" } else { "" }
}
