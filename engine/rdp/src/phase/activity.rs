//! Whether the user does something: what counts against the idle time-out.

use crate::wire::fast_path;
use crate::wire::share;
use crate::wire::touch::event;

/// An event of slow-path input: time, type, six bytes.
const SLOW_EVENT: usize = 12;

/// Whether fast-path input holds a key, a move or a click. Synchronisation and time stamps come by themselves.
pub(super) fn in_fast_path(pdu: &[u8]) -> bool {
    let Ok(cursor) = fast_path::payload(pdu) else {
        return false;
    };
    let mut events = cursor.rest();
    // no count in the header: a byte says it
    if pdu.first().is_some_and(|header| header >> 2 & 0x0F == 0) {
        events = events.get(1..).unwrap_or_default();
    }
    while let Some(header) = events.first() {
        let length = match header >> 5 {
            3 => 1,
            6 => 5,
            0 | 1 | 2 | 4 | 5 => return true,
            _ => return false,
        };
        events = events.get(length..).unwrap_or_default();
    }
    false
}

/// Whether the body of slow-path input holds a key, a move or a click.
pub(super) fn in_slow_path(body: &[u8]) -> bool {
    let events = body.get(4..).unwrap_or_default();
    events.chunks_exact(SLOW_EVENT).any(|event| {
        let kind = event.get(4..6).and_then(|kind| kind.first_chunk().copied());
        matches!(
            u16::from_le_bytes(kind.unwrap_or_default()),
            4 | 5 | 0x8001 | 0x8002 | 0x8004
        )
    })
}

/// Whether a PDU's share data on the IO channel is such input.
pub(super) fn in_share(pdu: &[u8], payload: std::ops::Range<usize>) -> bool {
    share::share_controls(pdu, payload).flatten().any(|item| {
        item.kind == share::control::DATA
            && share::share_data(pdu, &item)
                .is_ok_and(|data| data.kind == share::data::INPUT && pdu.get(data.body).is_some_and(in_slow_path))
    })
}

/// Whether a message of the touch channel is a touch or a pen.
pub(super) fn in_touch(message: &[u8]) -> bool {
    let kind = message.first_chunk().copied().map(u16::from_le_bytes);
    matches!(kind, Some(event::TOUCH | event::PEN))
}
