//! A whole engine's delivery in virtual time: sessions that seal, spill and end, storages that fail in every way that is
//! known, kills, a spool that fills up. One seed is one history. In the end every segment is at every required storage
//! exactly as it was sealed, or the recording says what is missing and why, and then a limit that has a name was reached.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::RngExt as _;

use super::*;

mod engine;
mod far;

use engine::{Engine, Session};
use far::Far;

/// Seeds of one run; `DESKREEL_SIMULATION_SEEDS` asks for more.
const SEEDS: u64 = 2000;
const STALL_MAX: Duration = Duration::from_secs(15);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longest answer of a storage; then the put is given up and its outcome is unknown.
const OP_TIMEOUT: Duration = Duration::from_secs(30);
/// Sealed segments that a session may have in memory before it waits or goes over to the spool.
const MEMORY_MAX: usize = 3;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What an object's bytes are, as a number.
type Content = u64;

fn content(id: ObjectId, version: u64) -> Content {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    (id, version).hash(&mut hasher);
    hasher.finish()
}

/// What outlives a kill.
#[derive(Default)]
struct Disk {
    spool: BTreeMap<ObjectId, Content>,
    catalog: BTreeMap<Uuid, Row>,
}

/// A recording as the catalog has it.
#[derive(Default)]
struct Row {
    sealed: BTreeSet<u32>,
    closed: bool,
    complete: bool,
    stored: BTreeSet<(usize, Object)>,
    /// What is missing, and why: segments that were only in memory at a kill, ...
    lost: BTreeMap<u32, &'static str>,
    /// ... what a storage refused, ...
    refused: BTreeMap<(usize, Object), String>,
    /// ... and that something was not recorded.
    gap: bool,
}

/// Everything there is.
struct World {
    random: StdRng,
    now: Time,
    rules: Vec<Rules>,
    far: Vec<Far>,
    disk: Disk,
    spool_max: usize,
    engine: Engine,
    /// What was sealed, whoever still knows of it.
    sealed: BTreeMap<ObjectId, Content>,
    /// What was in memory only when the engine was killed.
    killed_with: BTreeSet<ObjectId>,
    /// Recordings for which the spool had no room.
    had_no_room: BTreeSet<Uuid>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(1..=3);
        let mut rules: Vec<Rules> = (0..count).map(|_| any_rules(&mut random)).collect();
        rules[0].required = true;
        Self {
            far: (0..count).map(|_| Far::new(&mut random)).collect(),
            engine: Engine::new(rules.clone(), seed, Time::ZERO),
            spool_max: random.random_range(8..80),
            now: Time::ZERO,
            disk: Disk::default(),
            sealed: BTreeMap::new(),
            killed_with: BTreeSet::new(),
            had_no_room: BTreeSet::new(),
            rules,
            random,
        }
    }

    fn pressed(&self) -> bool {
        self.disk.spool.len() * 5 >= self.spool_max * 4
    }

    /// Lets time pass.
    fn run(&mut self, until: Time) {
        while self.now < until {
            self.act_on_all();
            let pressed = self.pressed();
            self.press(pressed);
            self.act_on_all();
            let started = self.engine.started;
            let wake = self.engine.delivery.wake_at().map(|at| started + at);
            assert!(
                wake.is_none_or(|at| at > self.now),
                "a wake-up that finds nothing to do spins"
            );
            let due = self.engine.under_way.iter().map(|put| put.due).min();
            let recovery = self.engine.recover_at;
            let next = [wake, due, recovery].into_iter().flatten().min();
            self.now = next.unwrap_or(until).clamp(self.now, until);
            self.answers();
            if self.engine.recover_at.is_some_and(|at| at <= self.now) {
                self.recover();
            }
        }
    }

    fn act_on_all(&mut self) {
        while let Some(action) = self.engine.delivery.next(self.now - self.engine.started) {
            self.act(action);
        }
    }

    /// One session's next step.
    fn session_step(&mut self, index: usize) {
        let session = &self.engine.sessions[index];
        let (id, strict, spooled) = (session.id, session.strict, session.spooled);
        let memory = self.engine.memory.keys().filter(|held| held.recording == id).count();
        assert!(memory <= MEMORY_MAX + 2, "the memory of a session is bounded");
        if !spooled && memory > MEMORY_MAX {
            // Strict: the recorder waits. Best effort: it goes over to the spool.
            self.engine.sessions[index].spooled = !strict;
            return;
        }
        if spooled && self.disk.spool.len() >= self.spool_max {
            self.had_no_room.insert(id);
            match strict {
                true => self.end_session(index),
                false => self.disk.catalog.entry(id).or_default().gap = true,
            }
            return;
        }
        if self.random.random_bool(0.06) {
            return self.end_session(index);
        }
        self.seal(index);
    }

    fn seal(&mut self, index: usize) {
        let session = &mut self.engine.sessions[index];
        let id = ObjectId {
            recording: session.id,
            object: Object::Segment(session.segments),
        };
        session.segments += 1;
        let session = session.clone();
        let row = self.disk.catalog.entry(session.id).or_default();
        if let Object::Segment(number) = id.object {
            row.sealed.insert(number);
        }
        self.hand_over(id, &session, content(id, 0));
    }

    /// The last segment and the manifest; the spool's reserve is for these.
    fn end_session(&mut self, index: usize) {
        self.seal(index);
        let session = self.engine.sessions.swap_remove(index);
        self.disk.catalog.entry(session.id).or_default().closed = true;
        let id = ObjectId {
            recording: session.id,
            object: Object::Manifest,
        };
        self.hand_over(id, &session, content(id, u64::from(session.segments)));
    }

    fn hand_over(&mut self, id: ObjectId, session: &Session, bytes: Content) {
        self.sealed.insert(id, bytes);
        let held = if session.spooled {
            self.disk.spool.insert(id, bytes);
            Held::Spool
        } else {
            self.engine.memory.insert(id, bytes);
            Held::Memory
        };
        let size = self.random.random_range(1..4_000_000);
        let (now, all) = (self.now - self.engine.started, (0..self.rules.len()).collect());
        self.engine.delivery.add(now, id, size, held, session.live, &all);
    }

    /// A session as `Sessions::open` opens one. None: refused.
    fn open(&mut self, id: Uuid) -> bool {
        let strict = self.random.random_bool(0.5);
        let all_sync = self.random.random_bool(0.2);
        let is_sync = |rules: &Rules| rules.sync || (all_sync && rules.required);
        let down = |world: &Self, index: usize| world.far[index].down(world.now);
        let unreachable = (0..self.rules.len())
            .any(|index| self.rules[index].required && is_sync(&self.rules[index]) && down(self, index));
        let spooled = unreachable || !self.rules.iter().all(is_sync);
        let full = spooled && self.disk.spool.len() >= self.spool_max;
        if strict && (unreachable || full) {
            return false;
        }
        let live = match (unreachable || !self.rules.iter().any(is_sync), all_sync) {
            (true, _) => Live::No,
            (false, true) => Live::Required,
            (false, false) => Live::Sync,
        };
        self.disk.catalog.entry(id).or_default();
        self.engine.sessions.push(Session {
            id,
            strict,
            spooled,
            live,
            segments: 0,
        });
        true
    }

    /// Everything arrived as sealed, or it is said what is missing.
    fn check(&self) {
        for (id, row) in &self.disk.catalog {
            self.check_recording(*id, row);
        }
        let kept = |id: &ObjectId| {
            let row = &self.disk.catalog[&id.recording];
            // What was refused is evidence, and so is what follows a hole.
            row.refused.keys().any(|(storage, _)| self.rules[*storage].required) || !row.lost.is_empty()
        };
        for id in self.disk.spool.keys() {
            assert!(kept(id), "{id:?} is left in the spool");
        }
    }

    fn check_recording(&self, recording: Uuid, row: &Row) {
        let refused = |storage: usize, object| row.refused.contains_key(&(storage, object));
        let mut whole = true;
        for &number in &row.sealed {
            let id = ObjectId {
                recording,
                object: Object::Segment(number),
            };
            if row.lost.contains_key(&number) {
                let in_memory = |id: &ObjectId| self.killed_with.contains(id);
                let before = row.lost.keys().next().copied().unwrap_or(number);
                let hole = ObjectId {
                    recording,
                    object: Object::Segment(before),
                };
                assert!(in_memory(&hole), "{id:?} was durable and is lost");
                whole = false;
                continue;
            }
            for (storage, rules) in self.rules.iter().enumerate() {
                match self.far[storage].objects.get(&id) {
                    Some(bytes) => assert_eq!(*bytes, self.sealed[&id], "{id:?} at {storage}"),
                    None if refused(storage, id.object) => whole &= !rules.required,
                    None => panic!("{id:?} is not at {storage}, and nobody says so"),
                }
            }
        }
        for (storage, rules) in self.rules.iter().enumerate().filter(|(_, rules)| rules.required) {
            let manifest = ObjectId {
                recording,
                object: Object::Manifest,
            };
            let there = self.far[storage].objects.contains_key(&manifest);
            let owed = !row.refused.keys().any(|(at, _)| *at == storage) && !row.sealed.is_empty();
            // A recording of which nothing was durable has no manifest.
            let nothing = row.lost.contains_key(&0);
            assert!(
                there || !owed || nothing,
                "no manifest of {recording} at {storage} {rules:?}"
            );
        }
        let refused_required = row.refused.keys().any(|(storage, _)| self.rules[*storage].required);
        assert!(row.complete || refused_required || row.lost.contains_key(&0) || row.sealed.is_empty());
        assert!(
            !row.gap || self.had_no_room.contains(&recording),
            "a gap without a full spool"
        );
        assert!(whole || !row.lost.is_empty() || refused_required);
    }
}

fn any_rules(random: &mut StdRng) -> Rules {
    let mut limit = |range: std::ops::Range<u64>| random.random_bool(0.2).then(|| random.random_range(range));
    let pace = Pace {
        puts_per_second_max: limit(1..20),
        bytes_per_second_max: limit(1_000_000..50_000_000),
    };
    Rules {
        required: random.random_bool(0.7),
        sync: random.random_bool(0.5),
        concurrency: random.random_range(1..=4),
        pace,
    }
}

fn history(seed: u64) -> Census {
    let mut world = World::new(seed);
    let recordings = world.random.random_range(1..=8_u128);
    let mut to_open: Vec<Uuid> = (1..=recordings).map(Uuid::from_u128).collect();
    let kills = world.random.random_range(0..=3);
    let mut kills_left = kills;
    while !to_open.is_empty() || !world.engine.sessions.is_empty() {
        let pause = ms(world.random.random_range(0..8_000));
        world.run(world.now + pause);
        if world.random.random_bool(0.05) {
            let storage = world.random.random_range(0..world.far.len());
            let (now, far) = (world.now, &mut world.far[storage]);
            far.trouble(now, &mut world.random);
        }
        if kills_left > 0 && world.random.random_bool(0.02) {
            kills_left -= 1;
            world.kill();
        }
        if world.random.random_bool(0.15)
            && let Some(id) = to_open.pop()
        {
            world.open(id);
        }
        if !world.engine.sessions.is_empty() {
            let index = world.random.random_range(0..world.engine.sessions.len());
            world.session_step(index);
        }
    }
    if kills > 0 && world.random.random_bool(0.5) {
        world.kill();
    }
    // Whatever it was, it is over some time.
    let healed = world.far.iter().map(|far| far.down_until).max().unwrap_or_default();
    world.run(healed.max(world.now) + DAY);
    assert!(world.engine.delivery.is_idle() && world.engine.under_way.is_empty());
    world.check();
    let mut census = Census::default();
    for row in world.disk.catalog.values() {
        census.complete += usize::from(row.complete);
        census.lost += row.lost.len();
        census.refused += row.refused.len();
        census.gaps += usize::from(row.gap);
    }
    census
}

/// What happened, so that the histories can't become harmless unseen.
#[derive(Debug, Default)]
struct Census {
    complete: usize,
    lost: usize,
    refused: usize,
    gaps: usize,
}

/// `DESKREEL_SIMULATION_SEED=7` runs one history alone.
#[test]
fn nothing_is_lost_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("DESKREEL_SIMULATION_SEED") {
        eprintln!("{:?}", history(seed));
        return;
    }
    let mut all = Census::default();
    for seed in 0..number("DESKREEL_SIMULATION_SEEDS").unwrap_or(SEEDS) {
        match catch_unwind(AssertUnwindSafe(|| history(seed))) {
            Ok(census) => {
                all.complete += census.complete;
                all.lost += census.lost;
                all.refused += census.refused;
                all.gaps += census.gaps;
            }
            Err(panic) => {
                eprintln!("DESKREEL_SIMULATION_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{all:?}");
    assert!(
        all.complete > 5000 && all.lost > 100 && all.refused > 100 && all.gaps > 100,
        "{all:?}"
    );
}
