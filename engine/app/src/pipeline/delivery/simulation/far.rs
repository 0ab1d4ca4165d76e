//! A storage that fails in every way that is known.

use super::*;

/// A storage.
pub(super) struct Far {
    pub(super) objects: BTreeMap<ObjectId, Content>,
    /// Until then it fails, and how.
    pub(super) down_until: Time,
    trouble: Trouble,
    latency_max_ms: u64,
    /// Chance that an answer is lost or wrong.
    lies: f64,
    /// Chance that an object is refused for good.
    refuses: f64,
    refused: BTreeSet<ObjectId>,
    /// No put may begin before: it asked for a pause.
    pub(super) quiet_until: Time,
}

#[derive(Clone, Copy)]
enum Trouble {
    Unreachable,
    Slow,
    Operator,
}

/// What a put ends with.
pub(super) enum Answer {
    Stored,
    Failed(Failure),
}

impl Far {
    pub(super) fn new(random: &mut StdRng) -> Self {
        Self {
            objects: BTreeMap::new(),
            down_until: Time::ZERO,
            trouble: Trouble::Unreachable,
            latency_max_ms: random.random_range(5..2000),
            lies: if random.random_bool(0.5) { 0.1 } else { 0.0 },
            refuses: if random.random_bool(0.1) { 0.02 } else { 0.0 },
            refused: BTreeSet::new(),
            quiet_until: Time::ZERO,
        }
    }

    /// From now on, for seconds or for a day.
    pub(super) fn trouble(&mut self, now: Time, random: &mut StdRng) {
        self.trouble = match random.random_range(0..3) {
            0 => Trouble::Slow,
            1 => Trouble::Operator,
            _ => Trouble::Unreachable,
        };
        let length = match random.random_range(0..10) {
            0 => DAY,
            1..4 => ms(random.random_range(0..3_600_000)),
            _ => ms(random.random_range(0..60_000)),
        };
        self.down_until = self.down_until.max(now + length);
    }

    pub(super) fn down(&self, now: Time) -> bool {
        now < self.down_until && !matches!(self.trouble, Trouble::Slow)
    }

    /// How long a put takes that begins now.
    pub(super) fn latency(&self, now: Time, random: &mut StdRng) -> Duration {
        let slow = now < self.down_until && matches!(self.trouble, Trouble::Slow);
        let max = if slow { 40_000 } else { self.latency_max_ms };
        ms(random.random_range(1..=max)).min(OP_TIMEOUT)
    }

    /// A put of bytes ends now, after `took`.
    pub(super) fn put(
        &mut self,
        now: Time,
        took: Duration,
        id: ObjectId,
        bytes: Content,
        random: &mut StdRng,
    ) -> Answer {
        if took >= OP_TIMEOUT {
            // The outcome is unknown.
            if random.random_bool(0.5) {
                self.take(id, bytes);
            }
            return failed(Remedy::Retry, "timed out");
        }
        if self.down(now) {
            return match self.trouble {
                Trouble::Operator => failed(Remedy::Operator, "permission denied"),
                Trouble::Unreachable | Trouble::Slow => failed(Remedy::Retry, "unreachable"),
            };
        }
        if self.refused.contains(&id) || random.random_bool(self.refuses) && !self.objects.contains_key(&id) {
            self.refused.insert(id);
            return failed(Remedy::None, "larger than the storage takes");
        }
        if random.random_bool(self.lies) {
            return self.lie(now, id, bytes, random);
        }
        self.take(id, bytes);
        Answer::Stored
    }

    fn lie(&mut self, now: Time, id: ObjectId, bytes: Content, random: &mut StdRng) -> Answer {
        match random.random_range(0..4) {
            0 => {
                let pause = ms(random.random_range(100..30_000));
                self.quiet_until = now + pause;
                let Answer::Failed(mut failure) = failed(Remedy::Retry, "slow down") else {
                    unreachable!()
                };
                failure.retry_after = Some(pause);
                Answer::Failed(failure)
            }
            1 => {
                // Stored, and the answer was lost.
                self.take(id, bytes);
                failed(Remedy::Retry, "connection reset")
            }
            2 => {
                // Stored, and this machine could not note it.
                self.take(id, bytes);
                failed(Remedy::Here, "the catalog is busy")
            }
            _ => failed(Remedy::Retry, "internal error"),
        }
    }

    /// Create-only.
    fn take(&mut self, id: ObjectId, bytes: Content) {
        let there = *self.objects.entry(id).or_insert(bytes);
        assert_eq!(there, bytes, "other bytes for {id:?}");
    }
}

fn failed(remedy: Remedy, message: &str) -> Answer {
    Answer::Failed(Failure::new(remedy, message))
}
