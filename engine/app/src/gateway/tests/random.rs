//! Numbers for tests that change what peers send, and what such tests are told: `DESKREEL_MUTANTS` for a long run,
//! `DESKREEL_SEED` for another one than the last.

/// Numbers that are the same in each run ([xorshift64*](https://doi.org/10.18637/jss.v008.i14)).
pub(in crate::gateway) struct Random(u64);

impl Random {
    pub(in crate::gateway) fn new(seed: usize) -> Self {
        Self(0x00DE_5C4E_E100_0000 | seed as u64)
    }

    pub(in crate::gateway) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        usize::try_from(high).unwrap() % bound
    }

    pub(in crate::gateway) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// Cuts `bytes` (but for the first `kept`), puts some in, repeats or replaces some.
    pub(in crate::gateway) fn change(&mut self, bytes: &mut Vec<u8>, kept: usize) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(6) {
                0 if bytes.len() > kept + 3 => bytes.truncate(at.max(kept)),
                1 => {
                    let filling = vec![self.byte(); self.below(64)];
                    bytes.splice(at..at, filling);
                }
                2 => {
                    let copy = bytes[at..].to_vec();
                    bytes.extend(copy.iter().take(200));
                }
                _ => self.replace(bytes, at),
            }
        }
    }

    /// Another byte at `at`, if there is one.
    pub(in crate::gateway) fn replace(&mut self, bytes: &mut [u8], at: usize) {
        if let Some(byte) = bytes.get_mut(at) {
            *byte = match self.below(4) {
                0 => 0xFF,
                1 => 0,
                2 => *byte ^ (1 << self.below(8)),
                _ => self.byte(),
            };
        }
    }
}

/// What `DESKREEL_MUTANTS` says.
pub(in crate::gateway) fn mutants() -> Option<usize> {
    given("DESKREEL_MUTANTS")
}

pub(in crate::gateway) fn seed() -> usize {
    given("DESKREEL_SEED").unwrap_or(1)
}

fn given(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

pub(in crate::gateway) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
