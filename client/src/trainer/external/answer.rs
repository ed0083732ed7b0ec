//! What a trainer answers, checked part by part as it comes. No IO: whoever reads the stream hands the parts in.
//!
//! Never holds more than a whole answer has bytes. What is checked: that it answers this question, with the plan's trained tensors
//! (names, shapes, order), once, with as many bytes as they have, finite where it is in floating point, and zero where a tensor rests
//! in this round. That a sum is no longer than clipped vectors allow is checked where it is taken (`LotSum::from_clipped`).

use std::ops::Range;

use consilium_proto::trainer_wire::{
    Answer, AnswerPart, Tensor, answer::Result as Outcome, answer_part::Part,
};

use super::Problem;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Integers of 4 or 8 bytes each.
    Sum { width: usize },
    /// Floats.
    Delta,
    /// No values.
    Scores,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Sum { .. } => "a sum",
            Self::Delta => "a delta",
            Self::Scores => "scores",
        }
    }

    fn width(self) -> usize {
        match self {
            Self::Sum { width } => width,
            Self::Delta => 4,
            Self::Scores => 0,
        }
    }
}

/// A whole answer; its head is of the kind that was wanted.
#[derive(Debug)]
pub(super) struct Answered {
    outcome: Outcome,
    bytes: Vec<u8>,
    width: usize,
}

/// Takes an answer in.
pub(super) struct Reader<'a> {
    id: &'a [u8],
    wanted: Wanted,
    /// The plan's trained tensors.
    tensors: &'a [Tensor],
    /// Bytes of a whole answer's values.
    expected: usize,
    outcome: Option<Outcome>,
    bytes: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// `dimension` is the number of values that `tensors` hold.
    pub(super) fn new(id: &'a [u8], wanted: Wanted, tensors: &'a [Tensor], dimension: usize) -> Self {
        Self { id, wanted, tensors, expected: dimension * wanted.width(), outcome: None, bytes: Vec::new() }
    }

    /// Takes the next part.
    pub(super) fn take(&mut self, part: AnswerPart) -> Result<(), Problem> {
        match (part.part, &self.outcome) {
            (Some(Part::Answer(_)), Some(_)) => Err(Problem::Twice),
            (Some(Part::Answer(head)), None) => self.head(head),
            (Some(Part::Values(_)), None) => Err(Problem::Malformed("values before the answer's head")),
            (Some(Part::Values(values)), Some(_)) if self.expected - self.bytes.len() < values.len() => {
                Err(Problem::Twice)
            }
            (Some(Part::Values(values)), Some(_)) => {
                self.bytes.extend_from_slice(&values);
                Ok(())
            }
            (None, _) => Err(Problem::Malformed("a part that holds nothing")),
        }
    }

    fn head(&mut self, head: Answer) -> Result<(), Problem> {
        if head.id != self.id {
            return Err(Problem::OtherQuestion);
        }
        let outcome = head.result.ok_or(Problem::Malformed("a head without a result"))?;
        let fits = match (&outcome, self.wanted) {
            (Outcome::Sum(_), Wanted::Sum { .. })
            | (Outcome::Delta(_), Wanted::Delta)
            | (Outcome::Scores(_), Wanted::Scores) => true,
            (Outcome::Sum(_) | Outcome::Delta(_) | Outcome::Scores(_), _) => false,
        };
        if !fits {
            return Err(Problem::OtherKind(self.wanted.name()));
        }
        if self.wanted != Wanted::Scores {
            same_tensors(self.tensors, &head.tensors)?;
            self.bytes.reserve_exact(self.expected);
        }
        self.outcome = Some(outcome);
        Ok(())
    }

    /// The stream has ended.
    pub(super) fn finish(self) -> Result<Answered, Problem> {
        let (got, expected) = (self.bytes.len(), self.expected);
        match self.outcome {
            Some(outcome) if got == expected => {
                Ok(Answered { outcome, bytes: self.bytes, width: self.wanted.width() })
            }
            _ => Err(Problem::Short { got, expected }),
        }
    }
}

/// Names, shapes and order, with the first difference named.
fn same_tensors(expected: &[Tensor], found: &[Tensor]) -> Result<(), Problem> {
    let refuse = |tensor: &str, problem: String| Err(Problem::Tensors { tensor: shortened(tensor), problem });
    for (expected, found) in expected.iter().zip(found) {
        if expected.name != found.name {
            return refuse(&found.name, format!("stands where {} is expected", expected.name));
        }
        if expected.shape != found.shape {
            let axes = found.shape.get(..8).unwrap_or(&found.shape);
            return refuse(&found.name, format!("has shape {axes:?}, and {:?} is expected", expected.shape));
        }
    }
    if let Some(missing) = expected.get(found.len()) {
        return refuse(&missing.name, "is missing".to_owned());
    }
    match found.get(expected.len()) {
        Some(stray) => refuse(&stray.name, "is one too many".to_owned()),
        None => Ok(()),
    }
}

/// The trained tensors that rest, and where their coordinates are; `still` has a range for each.
pub(super) fn resting<'a>(
    trained: &'a [Tensor],
    still: &'a [Range<usize>],
) -> impl Iterator<Item = (&'a Tensor, Range<usize>)> {
    let places = trained.iter().scan(0, |at, tensor| {
        let begin = *at;
        *at += tensor.shape.iter().map(|&axis| axis as usize).product::<usize>();
        Some((tensor, begin..*at))
    });
    places.filter(move |(_, place)| still.contains(place))
}

/// That nothing moves that rests: a trainer that moved both factors at once has not done what the plan asks for.
pub(super) fn check_rest<T: PartialEq + Default>(
    trained: &[Tensor],
    still: &[Range<usize>],
    values: &[T],
) -> Result<(), Problem> {
    let moves =
        |place: Range<usize>| values.get(place).is_none_or(|rests| rests.iter().any(|v| *v != T::default()));
    match resting(trained, still).find(|(_, place)| moves(place.clone())) {
        Some((tensor, _)) => Err(Problem::Moved { tensor: tensor.name.clone() }),
        None => Ok(()),
    }
}

/// A stranger's text may be long, and may move a terminal's cursor.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Answered {
    /// The values of a sum, then its two metrics.
    pub(super) fn sum(self) -> Result<Vec<i64>, Problem> {
        let Outcome::Sum(sum) = self.outcome else { return Err(Problem::OtherKind("a sum")) };
        let mut values = Vec::with_capacity(self.bytes.len() / self.width.max(1) + 2);
        match self.width {
            8 => values.extend(self.bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes))),
            _ => values
                .extend(self.bytes.as_chunks().0.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes)))),
        }
        values.extend([sum.loss, sum.correct]);
        Ok(values)
    }

    /// A delta, its loss and its accuracy; finite.
    pub(super) fn delta(self) -> Result<(Vec<f32>, f64, f64), Problem> {
        let Outcome::Delta(delta) = self.outcome else { return Err(Problem::OtherKind("a delta")) };
        let values: Vec<f32> =
            self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        finite("a delta", values.iter().all(|value| value.is_finite()))?;
        finite("a loss", delta.loss.is_finite())?;
        part_of_one("accuracy", delta.accuracy)?;
        Ok((values, delta.loss, delta.accuracy))
    }

    /// Examples, loss, accuracy and macro accuracy.
    pub(super) fn scores(self) -> Result<(usize, f64, f64, f64), Problem> {
        let Outcome::Scores(scores) = self.outcome else { return Err(Problem::OtherKind("scores")) };
        finite("a loss", scores.loss.is_finite())?;
        part_of_one("accuracy", scores.accuracy)?;
        part_of_one("macro_accuracy", scores.macro_accuracy)?;
        let examples = usize::try_from(scores.examples).unwrap_or(usize::MAX);
        if examples == 0 {
            return Err(Problem::OutOfRange { what: "examples", value: 0.0, range: "at least 1" });
        }
        Ok((examples, scores.loss, scores.accuracy, scores.macro_accuracy))
    }
}

fn finite(what: &'static str, holds: bool) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(Problem::NotFinite { what }) }
}

fn part_of_one(what: &'static str, value: f64) -> Result<(), Problem> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err(Problem::OutOfRange { what, value, range: "from 0 to 1" })
}
