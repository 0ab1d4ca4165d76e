//! One run of the engine, from start to kill: what `courier`, `recorder` and `recovery` do with the machine.

use super::far::Answer;
use super::*;

/// Between two attempts to recover what a storage did not answer for.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(60);

/// What a kill ends.
pub(super) struct Engine {
    pub(super) delivery: Delivery,
    pub(super) started: Time,
    pub(super) sessions: Vec<Session>,
    pub(super) memory: BTreeMap<ObjectId, Content>,
    pub(super) under_way: Vec<Put>,
    to_recover: Vec<Uuid>,
    pub(super) recover_at: Option<Time>,
    pressed: bool,
    /// Failures in a row at each storage, to know whether it is being probed.
    failing: Vec<bool>,
}

/// A running session.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) id: Uuid,
    pub(super) strict: bool,
    pub(super) spooled: bool,
    pub(super) live: Live,
    pub(super) segments: u32,
}

/// A put that is under way.
pub(super) struct Put {
    pub(super) due: Time,
    began: Time,
    storage: usize,
    id: ObjectId,
    bytes: Content,
}

impl Engine {
    pub(super) fn new(rules: Vec<Rules>, seed: u64, started: Time) -> Self {
        Self {
            failing: vec![false; rules.len()],
            delivery: Delivery::new(rules, STALL_MAX, seed),
            started,
            sessions: Vec::new(),
            memory: BTreeMap::new(),
            under_way: Vec::new(),
            to_recover: Vec::new(),
            recover_at: None,
            pressed: false,
        }
    }
}

impl World {
    pub(super) fn press(&mut self, pressed: bool) {
        if self.engine.pressed != pressed {
            self.engine.pressed = pressed;
            self.engine.delivery.pressed(pressed);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Put { storage, id } => self.begin(storage, id),
            Action::Stalled { recording, storage, .. } => self.stalled(recording, storage),
            Action::Release { id } => self.release(id),
            Action::Complete { recording } => {
                let row = self.disk.catalog.entry(recording).or_default();
                assert!(row.closed, "complete before it is closed");
                row.complete = true;
                for (storage, _) in self.rules.iter().enumerate().filter(|(_, rules)| rules.required) {
                    let id = ObjectId {
                        recording,
                        object: Object::Manifest,
                    };
                    assert!(self.far[storage].objects.contains_key(&id));
                }
            }
            Action::Lost { storage, id, error } => {
                let of_a_segment = id.object == Object::Manifest && error == "a segment is missing there";
                let pressed = error.starts_with("the spool fills up") && self.engine.pressed;
                let refused = error.starts_with("larger");
                let optional = !self.rules[storage].required;
                assert!(refused || optional && (pressed || of_a_segment), "{error}");
                let row = self.disk.catalog.entry(id.recording).or_default();
                row.refused.insert((storage, id.object), error);
            }
        }
    }

    fn begin(&mut self, storage: usize, id: ObjectId) {
        let (now, rules) = (self.now, &self.rules[storage]);
        let here: Vec<&Put> = self
            .engine
            .under_way
            .iter()
            .filter(|put| put.storage == storage)
            .collect();
        assert!(here.len() < rules.concurrency, "too many at once");
        assert!(
            here.is_empty() || !self.engine.failing[storage],
            "a failing storage is probed with one"
        );
        assert!(here.iter().all(|put| put.id != id), "{id:?} twice at once");
        assert!(now >= self.far[storage].quiet_until, "it asked for a pause");
        assert!(
            !self.disk.catalog[&id.recording].stored.contains(&(storage, id.object)),
            "{id:?} again"
        );
        if id.object == Object::Manifest {
            let row = &self.disk.catalog[&id.recording];
            for number in row.sealed.iter().filter(|number| !row.lost.contains_key(number)) {
                let segment = ObjectId {
                    object: Object::Segment(*number),
                    ..id
                };
                assert!(
                    self.far[storage].objects.contains_key(&segment),
                    "manifest before {segment:?}"
                );
            }
        }
        let bytes = self.engine.memory.get(&id).or_else(|| self.disk.spool.get(&id));
        let bytes = *bytes.unwrap_or_else(|| panic!("the bytes of {id:?} are gone"));
        let due = now + self.far[storage].latency(now, &mut self.random);
        self.engine.under_way.push(Put {
            due,
            began: now,
            storage,
            id,
            bytes,
        });
    }

    /// The puts that end now.
    pub(super) fn answers(&mut self) {
        while let Some(index) = self.engine.under_way.iter().position(|put| put.due <= self.now) {
            let put = self.engine.under_way.swap_remove(index);
            let answer = self.far[put.storage].put(self.now, put.due - put.began, put.id, put.bytes, &mut self.random);
            let now = self.now - self.engine.started;
            match answer {
                Answer::Stored => {
                    let row = self.disk.catalog.entry(put.id.recording).or_default();
                    row.stored.insert((put.storage, put.id.object));
                    row.refused.remove(&(put.storage, put.id.object));
                    self.engine.failing[put.storage] = false;
                    self.engine.delivery.stored(now, put.storage, put.id);
                }
                Answer::Failed(failure) => {
                    self.engine.failing[put.storage] |= matches!(failure.remedy, Remedy::Retry | Remedy::Operator);
                    self.engine.delivery.failed(now, put.storage, put.id, &failure);
                }
            }
            assert_eq!(
                self.engine.delivery.failing(put.storage).is_some(),
                self.engine.failing[put.storage]
            );
        }
    }

    fn stalled(&mut self, recording: Uuid, storage: usize) {
        let rules = &self.rules[storage];
        assert!(rules.sync || rules.required, "nobody waits for it");
        for id in self.engine.delivery.in_memory(Some(recording)) {
            if let Some(bytes) = self.engine.memory.remove(&id) {
                self.disk.spool.insert(id, bytes);
                self.engine.delivery.spilled(id);
            }
        }
        let required = rules.required;
        let Some(index) = self.engine.sessions.iter().position(|session| session.id == recording) else {
            return;
        };
        let session = &mut self.engine.sessions[index];
        session.spooled = true;
        session.live = Live::No;
        if required && session.strict {
            self.end_session(index);
        }
    }

    fn release(&mut self, id: ObjectId) {
        let row = &self.disk.catalog[&id.recording];
        for (storage, rules) in self.rules.iter().enumerate() {
            let known = row.stored.contains(&(storage, id.object));
            let said = !rules.required && row.refused.contains_key(&(storage, id.object));
            assert!(known || said, "{id:?} is dropped, {storage} hasn't got it");
        }
        let there = self.engine.memory.remove(&id).is_some();
        let spooled = self.disk.spool.remove(&id).is_some();
        assert!(there || spooled, "{id:?} is dropped twice");
    }

    /// kill -9, and a start some time later.
    pub(super) fn kill(&mut self) {
        self.killed_with.extend(self.engine.memory.keys().copied());
        for put in std::mem::take(&mut self.engine.under_way) {
            // It arrived, or it didn't.
            if self.random.random_bool(0.5) {
                let _ = self.far[put.storage].put(self.now, ms(1), put.id, put.bytes, &mut self.random);
            }
        }
        self.now += ms(self.random.random_range(100..100_000));
        let seed = self.random.random();
        self.engine = Engine::new(self.rules.clone(), seed, self.now);
        for far in &mut self.far {
            // It was said to another process.
            far.quiet_until = Time::ZERO;
        }
        let unfinished = self.disk.catalog.iter().filter(|(id, row)| {
            let refused = row.refused.keys().any(|(storage, _)| self.rules[*storage].required);
            let in_spool = self.disk.spool.keys().any(|spooled| spooled.recording == **id);
            in_spool || !(row.complete || refused)
        });
        self.engine.to_recover = unfinished.map(|(id, _)| *id).collect();
        self.recover();
    }

    /// What `recovery` does with what a kill left.
    pub(super) fn recover(&mut self) {
        self.engine.recover_at = None;
        for id in std::mem::take(&mut self.engine.to_recover) {
            if !self.resume(id) && !self.close(id) {
                self.engine.to_recover.push(id);
                self.engine.recover_at = Some(self.now + RECOVERY_INTERVAL);
            }
        }
    }

    /// A recording that was closed before and of which everything is there.
    fn resume(&mut self, recording: Uuid) -> bool {
        let row = &self.disk.catalog[&recording];
        if !row.closed {
            return false;
        }
        let objects: Vec<Object> = self.objects(row).collect();
        let lacking = |object: Object| -> BTreeSet<usize> {
            let stored = |storage: &usize| row.stored.contains(&(*storage, object));
            (0..self.rules.len()).filter(|storage| !stored(storage)).collect()
        };
        let in_spool = |object| self.disk.spool.contains_key(&ObjectId { recording, object });
        if !row.complete
            && objects
                .iter()
                .any(|object| !lacking(*object).is_empty() && !in_spool(*object))
        {
            return false;
        }
        let found: Vec<(ObjectId, BTreeSet<usize>)> = objects
            .into_iter()
            .filter(|object| in_spool(*object))
            .map(|object| (ObjectId { recording, object }, lacking(object)))
            .collect();
        let manifest = ObjectId {
            recording,
            object: Object::Manifest,
        };
        let all_there = !in_spool(Object::Manifest) && !row.complete;
        for (id, missing) in found {
            self.engine
                .delivery
                .add(Time::ZERO, id, 1000, Held::Spool, false, &missing);
        }
        if all_there {
            // Only that this was all is not known yet.
            self.engine.memory.insert(manifest, 0);
            self.engine
                .delivery
                .add(Time::ZERO, manifest, 0, Held::Spool, false, &BTreeSet::new());
        }
        true
    }

    fn objects(&self, row: &Row) -> impl Iterator<Item = Object> {
        let segments: Vec<Object> = row
            .sealed
            .iter()
            .filter(|number| !row.lost.contains_key(number))
            .map(|number| Object::Segment(*number))
            .collect();
        segments.into_iter().chain([Object::Manifest])
    }

    /// Closes what a kill left open, from what is durable. False: a storage doesn't answer.
    fn close(&mut self, recording: Uuid) -> bool {
        let (now, count) = (self.now, self.rules.len());
        if (0..count).any(|storage| self.rules[storage].required && self.far[storage].down(now)) {
            return false;
        }
        let id = |object| ObjectId { recording, object };
        let answers: Vec<usize> = (0..count).filter(|storage| !self.far[*storage].down(now)).collect();
        let at = |world: &Self, object: Object| -> BTreeSet<usize> {
            let row = &world.disk.catalog[&recording];
            let has = |storage: &usize| {
                row.stored.contains(&(*storage, object))
                    || answers.contains(storage) && world.far[*storage].objects.contains_key(&id(object))
            };
            (0..count).filter(has).collect()
        };
        let bytes = |world: &Self, object: Object| {
            let far = answers
                .iter()
                .find_map(|storage| world.far[*storage].objects.get(&id(object)));
            world.disk.spool.get(&id(object)).or(far).copied()
        };
        let mut found = 0;
        while bytes(self, Object::Segment(found)).is_some() {
            found += 1;
        }
        let row = self.disk.catalog.entry(recording).or_default();
        row.closed = true;
        for number in row.sealed.iter().copied().filter(|number| *number >= found) {
            row.lost.insert(
                number,
                "it was in memory when the gateway was killed, or follows such a one",
            );
        }
        if found == 0 {
            return true;
        }
        let manifest = bytes(self, Object::Manifest)
            .unwrap_or_else(|| content(id(Object::Manifest), 1_000_000 + u64::from(found)));
        let segments = (0..found).map(Object::Segment);
        for object in segments.chain([Object::Manifest]) {
            let has = at(self, object);
            if has.len() < count || object == Object::Manifest {
                let bytes = bytes(self, object).unwrap_or(manifest);
                self.disk.spool.insert(id(object), bytes);
            }
            let row = self.disk.catalog.entry(recording).or_default();
            row.stored.extend(has.iter().map(|storage| (*storage, object)));
            if self.disk.spool.contains_key(&id(object)) {
                let missing = (0..count).filter(|storage| !has.contains(storage)).collect();
                self.engine
                    .delivery
                    .add(Time::ZERO, id(object), 1000, Held::Spool, false, &missing);
            }
        }
        true
    }
}
