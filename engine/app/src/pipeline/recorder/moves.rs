//! Moves of mouse, fingers and pens, of which one a frame is enough.

use deskreel_recording::event::{Contact, ContactState, Input};

/// What moved since the first move that is not recorded yet, each with its latest place. There are no more than the numbers
/// of fingers and pens, 256 each, and one mouse.
#[derive(Debug, Default)]
pub(super) struct Moves {
    since_ns: u64,
    latest: Vec<Input>,
}

impl Moves {
    /// Keeps a move; gives back what is none.
    pub(super) fn take_in(&mut self, at: u64, input: Input) -> Option<Input> {
        if !is_move(&input) {
            return Some(input);
        }
        if self.latest.is_empty() {
            self.since_ns = at;
        }
        match self.latest.iter_mut().find(|latest| is_same(latest, &input)) {
            Some(latest) => *latest = input,
            None => self.latest.push(input),
        }
        None
    }

    /// When the first of them was.
    pub(super) fn since_ns(&self) -> Option<u64> {
        (!self.latest.is_empty()).then_some(self.since_ns)
    }

    /// All of them, at the time of the first.
    pub(super) fn drain(&mut self) -> Vec<(u64, Input)> {
        let at = self.since_ns;
        std::mem::take(&mut self.latest)
            .into_iter()
            .map(|input| (at, input))
            .collect()
    }
}

fn is_move(input: &Input) -> bool {
    match input {
        Input::MouseMove { .. } => true,
        Input::Touch(Contact { state, .. }) | Input::Pen(Contact { state, .. }) => {
            matches!(state, ContactState::Move | ContactState::Hover)
        }
        _ => false,
    }
}

/// Whether both moves are of the same thing.
fn is_same(one: &Input, other: &Input) -> bool {
    match (one, other) {
        (Input::MouseMove { .. }, Input::MouseMove { .. }) => true,
        (Input::Touch(one), Input::Touch(other)) | (Input::Pen(one), Input::Pen(other)) => one.id == other.id,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_that_moves_the_latest_place_is_kept() {
        let contact = |id, state, x| Contact {
            id,
            state,
            x,
            y: 0,
            pressure: None,
            eraser: false,
            barrel: false,
        };
        let finger = |id, x| Input::Touch(contact(id, ContactState::Move, x));
        let pen = |x| Input::Pen(contact(1, ContactState::Hover, x));
        let mut moves = Moves::default();
        assert_eq!((moves.since_ns(), moves.drain()), (None, Vec::new()));
        for (at, input) in [
            (5, finger(1, 1)),
            (6, finger(2, 1)),
            (7, pen(1)),
            (8, finger(1, 2)),
            (9, pen(2)),
        ] {
            assert_eq!(moves.take_in(at, input), None);
        }
        assert_eq!(moves.take_in(9, Input::MouseMove { x: 1, y: 1 }), None);
        let up = Input::Touch(contact(1, ContactState::Up, 3));
        assert_eq!(moves.take_in(10, up.clone()), Some(up));
        assert_eq!(moves.since_ns(), Some(5));
        let told: Vec<Input> = moves.drain().into_iter().map(|(_, input)| input).collect();
        assert_eq!(
            told,
            [finger(1, 2), finger(2, 1), pen(2), Input::MouseMove { x: 1, y: 1 }]
        );
        assert_eq!(moves.since_ns(), None);
    }
}
