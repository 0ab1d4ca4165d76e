//! A copy of the device channel ([MS-RDPEFS]), both ways: what the desktop does with the client's drives.
//!
//! Messages are followed as they arrive, in chunks. What is read and written is counted and hashed as it passes and never
//! kept, so large files cost no memory; everything that is kept has a limit below.

mod event;
mod file;
mod message;
mod request;

#[cfg(test)]
mod tests;

pub use event::{DriveAction, DriveEvent};

use std::collections::BTreeMap;

use self::file::{File, Sizes};
use self::message::{Assembly, Stream};
use self::request::{Call, Request};
use super::event::{TapEvent, UndecodedKind};
use super::sink::Sink;
use crate::Direction;
use crate::wire::rdpdr::{self, CORE, CompletionHead, HEADER, PENDING_REQUESTS_MAX, RequestHead, device, packet};
use crate::wire::{Cursor, WireError};

/// Drives of a client.
const DRIVES_MAX: usize = 64;
/// Files that are open at a time. Of further ones only the reads and writes are told, without a name.
const FILES_MAX: usize = 1024;

/// Everything that is known of the channel.
pub(super) struct Drives {
    hashing: bool,
    drives: BTreeMap<u32, Drive>,
    /// Requests to drives, by device and number.
    requests: BTreeMap<(u32, u32), Request>,
    /// Open files, by device and number.
    files: BTreeMap<(u32, u32), File>,
    sizes: Sizes,
    /// Bytes that may still wait for others before them.
    room: usize,
    /// From the client, from the desktop.
    sides: [Assembly; 2],
}

struct Drive {
    name: String,
    /// The desktop was told to have taken it.
    shared: bool,
}

impl Drives {
    /// `hashing`: whether files are hashed.
    pub(super) fn new(hashing: bool) -> Self {
        Self {
            hashing,
            drives: BTreeMap::new(),
            requests: BTreeMap::new(),
            files: BTreeMap::new(),
            sizes: Sizes::default(),
            room: file::EARLY_MAX_BYTES_OF_ALL,
            sides: Default::default(),
        }
    }

    /// Chunks were dropped unseen: what is arriving has a hole, and which requests are open is not known.
    pub(super) fn lose(&mut self) {
        self.requests.clear();
        self.sides = [Assembly::lost(), Assembly::lost()];
        self.files.values_mut().for_each(|file| file.lose(&mut self.room));
    }

    /// Takes one chunk: flags of the channel header, and the bytes after it.
    pub(super) fn chunk(&mut self, direction: Direction, flags: u32, data: &[u8], sink: &mut Sink<'_>) {
        let mut side = std::mem::take(self.side(direction));
        let fed = side.chunk(flags, data, |head| self.stream(direction, head));
        for (stream, at, bytes) in fed.data {
            self.data(&stream, at, &bytes);
        }
        *self.side(direction) = side;
        if fed.orphan {
            malformed("device chunk without a beginning", sink);
        }
        if let Some(stream) = fed.ended {
            self.stream_ended(stream, sink);
        }
        if let Some(message) = fed.message
            && self.message(direction, &message, sink).is_err()
        {
            malformed("malformed device message", sink);
        }
    }

    fn side(&mut self, direction: Direction) -> &mut Assembly {
        let [client, desktop] = &mut self.sides;
        match direction {
            Direction::ToDesktop => client,
            Direction::ToClient => desktop,
        }
    }

    /// Whether the message that begins so carries a file's bytes.
    fn stream(&self, direction: Direction, head: &[u8]) -> Option<Stream> {
        match (rdpdr::kind(head)?, direction) {
            ((CORE, packet::IO_REQUEST), Direction::ToClient) => {
                let request = RequestHead::parse(head).ok()?;
                if request.major != rdpdr::major::WRITE || !self.drives.contains_key(&request.device) {
                    return None;
                }
                Stream::write(request, head)
            }
            ((CORE, packet::IO_COMPLETION), Direction::ToDesktop) => {
                let completion = CompletionHead::parse(head).ok().filter(|head| head.status == 0)?;
                let request = self.requests.get(&(completion.device, completion.completion))?;
                match request.call {
                    Call::Read { offset, .. } => Stream::read(completion, request.file, offset, head),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Bytes of a file pass.
    fn data(&mut self, stream: &Stream, at: u64, bytes: &[u8]) {
        if !self.hashing {
            return;
        }
        if let Some(file) = self.files.get_mut(&(stream.device, stream.file)) {
            match stream.is_write {
                true => file.writing(at, bytes, &mut self.room),
                false => file.reading(at, bytes, &mut self.room),
            }
        }
    }

    fn stream_ended(&mut self, stream: Stream, sink: &mut Sink<'_>) {
        let key = (stream.device, stream.completion);
        if stream.is_write {
            let call = Call::Write {
                offset: stream.offset,
                sent: stream.passed,
            };
            self.asked(
                key,
                Request {
                    file: stream.file,
                    call,
                },
                sink,
            );
            return;
        }
        let Some(Request { file, call }) = self.requests.remove(&key) else {
            return;
        };
        if let Call::Read { offset, asked } = call {
            let length = stream.passed;
            if let Some(file) = self.files.get_mut(&(stream.device, file)) {
                file.was_read(offset, length, asked);
            }
            let path = self.path(stream.device, file);
            let action = DriveAction::Read {
                file,
                path,
                offset,
                length,
                status: 0,
            };
            tell(stream.device, action, sink);
        }
    }

    /// A request to a drive waits for its answer.
    fn asked(&mut self, key: (u32, u32), request: Request, sink: &mut Sink<'_>) {
        // the filter ends a session that has more
        if self.requests.len() >= PENDING_REQUESTS_MAX && !self.requests.contains_key(&key) {
            return malformed("more requests than may be open", sink);
        }
        self.requests.insert(key, request);
    }

    fn message(&mut self, direction: Direction, message: &[u8], sink: &mut Sink<'_>) -> Result<(), WireError> {
        let Some((CORE, id)) = rdpdr::kind(message) else {
            return Ok(());
        };
        match (id, direction) {
            (packet::SERVER_ANNOUNCE, Direction::ToClient) => {
                self.drives.clear();
                self.requests.clear();
                self.files.clear();
                self.room = file::EARLY_MAX_BYTES_OF_ALL;
            }
            (packet::DEVICE_LIST_ANNOUNCE, Direction::ToDesktop) => self.announced(message)?,
            (packet::DEVICE_LIST_REMOVE, Direction::ToDesktop) => {
                for id in rdpdr::removed(message)? {
                    self.forget(id, sink);
                }
            }
            (packet::DEVICE_REPLY, Direction::ToClient) => {
                let mut cursor = Cursor::at(message, HEADER, "device reply");
                let (id, status) = (cursor.u32()?, cursor.u32()?);
                self.taken(id, status, sink);
            }
            (packet::IO_REQUEST, Direction::ToClient) => {
                let head = RequestHead::parse(message)?;
                if self.drives.contains_key(&head.device) {
                    self.taken(head.device, 0, sink);
                    if let Some(call) = request::call(&head, message)? {
                        let request = Request { file: head.file, call };
                        self.asked((head.device, head.completion), request, sink);
                    }
                }
            }
            (packet::IO_COMPLETION, Direction::ToDesktop) => {
                let head = CompletionHead::parse(message)?;
                if let Some(request) = self.requests.remove(&(head.device, head.completion)) {
                    self.answered(&head, request, message, sink)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn announced(&mut self, message: &[u8]) -> Result<(), WireError> {
        for announced in rdpdr::devices(message)? {
            if announced.kind == device::DRIVE
                && (self.drives.len() < DRIVES_MAX || self.drives.contains_key(&announced.id))
            {
                let drive = Drive {
                    name: file::shortened(&announced.name.replace(['/', '\\'], "_")),
                    shared: false,
                };
                self.drives.insert(announced.id, drive);
            }
        }
        Ok(())
    }

    /// The desktop has said whether it takes a drive, or uses it, which says the same.
    fn taken(&mut self, id: u32, status: u32, sink: &mut Sink<'_>) {
        let Some(drive) = self.drives.get_mut(&id) else { return };
        if !std::mem::replace(&mut drive.shared, true) {
            let name = drive.name.clone();
            tell(id, DriveAction::Shared { name, status }, sink);
        }
    }

    fn forget(&mut self, id: u32, sink: &mut Sink<'_>) {
        self.requests.retain(|(device, _), _| *device != id);
        let open: Vec<_> = self
            .files
            .range((id, 0)..=(id, u32::MAX))
            .map(|(key, _)| *key)
            .collect();
        for (_, file) in open {
            self.closed(id, file, sink);
        }
        if let Some(drive) = self.drives.remove(&id).filter(|drive| drive.shared) {
            tell(id, DriveAction::Removed { name: drive.name }, sink);
        }
    }

    /// A drive's answer that is no read.
    fn answered(
        &mut self,
        head: &CompletionHead,
        request: Request,
        message: &[u8],
        sink: &mut Sink<'_>,
    ) -> Result<(), WireError> {
        let Request { file, call } = request;
        let (id, status) = (head.device, head.status);
        let key = (id, file);
        let mut answer = Cursor::at(message, rdpdr::COMPLETION_HEAD, "device completion");
        match call {
            Call::Open(open) => self.opened(id, open, status, &mut answer, sink)?,
            Call::Close => self.closed(id, file, sink),
            Call::Read { offset, asked } => self.not_read(key, offset, asked, status, sink),
            Call::Write { offset, sent } => {
                let length = match status {
                    0 => answer.u32().map_or(sent, u64::from).min(sent),
                    _ => 0,
                };
                self.written(key, offset, length, sent, status, sink);
            }
            Call::List { pattern, class, first } => {
                if status == 0 {
                    self.sizes.entries(id, &pattern, class, answer.rest());
                }
                if first && request::is_list(&pattern) {
                    let path = self.path(id, file);
                    tell(id, DriveAction::Listed { path, status }, sink);
                }
            }
            Call::Standard => {
                if let (0, Some(open)) = (status, self.files.get_mut(&key)) {
                    // length of the answer, allocation size
                    answer.skip(4 + 8)?;
                    open.size = Some(u64::from(answer.u32()?) | u64::from(answer.u32()?) << 32);
                }
            }
            Call::Rename { path: new } => {
                let new_path = self.full(id, &new);
                let path = self.path(id, file);
                if let (0, Some(open)) = (status, self.files.get_mut(&key)) {
                    self.sizes.forget(id, &open.path);
                    open.path = new;
                }
                tell(id, DriveAction::Renamed { path, new_path, status }, sink);
            }
            Call::Delete { delete } => {
                let path = self.path(id, file);
                if delete {
                    tell(id, DriveAction::Deleted { path, status }, sink);
                }
            }
            Call::Resize { length } => {
                let path = self.path(id, file);
                if let (0, Some(open)) = (status, self.files.get_mut(&key)) {
                    open.resized(length, &mut self.room);
                }
                tell(id, DriveAction::Resized { path, length, status }, sink);
            }
        }
        Ok(())
    }

    /// A read brought nothing: what was read is a stream.
    fn not_read(&mut self, key: (u32, u32), offset: u64, asked: u32, status: u32, sink: &mut Sink<'_>) {
        if let Some(open) = self.files.get_mut(&key)
            && matches!(status, 0 | file::STATUS_END_OF_FILE)
        {
            open.was_read(offset, 0, asked);
            return;
        }
        let (id, file) = key;
        let action = DriveAction::Read {
            file,
            path: self.path(id, file),
            offset,
            length: 0,
            status,
        };
        tell(id, action, sink);
    }

    fn written(&mut self, key: (u32, u32), offset: u64, length: u64, sent: u64, status: u32, sink: &mut Sink<'_>) {
        if let Some(open) = self.files.get_mut(&key) {
            open.was_written(length, length == sent, &mut self.room);
        }
        let (id, file) = key;
        let action = DriveAction::Written {
            file,
            path: self.path(id, file),
            offset,
            length,
            status,
        };
        tell(id, action, sink);
    }

    fn opened(
        &mut self,
        id: u32,
        open: request::Open,
        status: u32,
        answer: &mut Cursor<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<(), WireError> {
        let path = self.full(id, &open.path);
        let (made, folder, tells) = (open.makes(), open.is_folder(), open.tells());
        let deletes = open.deletes();
        if status != 0 {
            if tells && !file::is_not_found(status) {
                let action = DriveAction::Opened {
                    path,
                    made,
                    folder,
                    status,
                };
                tell(id, action, sink);
            }
            return Ok(());
        }
        let number = answer.u32()?;
        if self.files.len() < FILES_MAX || self.files.contains_key(&(id, number)) {
            let size = self.sizes.of(id, &open.path);
            let empty = open.empties();
            let mut file = File::new(open.path, empty, tells && !folder, size);
            if !self.hashing {
                file.lose(&mut self.room);
            }
            if let Some(mut lost) = self.files.insert((id, number), file) {
                lost.lose(&mut self.room);
            }
        }
        if tells {
            let action = DriveAction::Opened {
                path: path.clone(),
                made,
                folder,
                status,
            };
            tell(id, action, sink);
        }
        if deletes {
            tell(id, DriveAction::Deleted { path, status }, sink);
        }
        Ok(())
    }

    fn closed(&mut self, id: u32, number: u32, sink: &mut Sink<'_>) {
        let path = self.path(id, number);
        let Some(file) = self.files.remove(&(id, number)) else {
            return;
        };
        match file.length_now() {
            Some(size) => self.sizes.set(id, &file.path, size),
            None => self.sizes.forget(id, &file.path),
        }
        if let Some(action) = file.close(number, path, &mut self.room) {
            tell(id, action, sink);
        }
    }

    /// Name of the drive and path of a file on it.
    fn path(&self, id: u32, file: u32) -> String {
        let path = self.files.get(&(id, file)).map_or("?", |file| file.path.as_str());
        self.full(id, path)
    }

    fn full(&self, id: u32, path: &str) -> String {
        let name = self.drives.get(&id).map_or("?", |drive| drive.name.as_str());
        match path.trim_matches('/') {
            "" => name.to_owned(),
            path => format!("{name}/{path}"),
        }
    }
}

fn tell(drive: u32, action: DriveAction, sink: &mut Sink<'_>) {
    sink.push(TapEvent::Drive(DriveEvent { drive, action }));
}

/// The bytes may be those of a file: only that there were some is told.
fn malformed(what: &str, sink: &mut Sink<'_>) {
    sink.undecoded(UndecodedKind::Drive, what, &[]);
}
