//! EBML (RFC 8794): elements of an id, a length and their bytes.

/// An element.
pub(crate) fn element(id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(id, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// An element of other elements.
pub(crate) fn master(id: u32, children: &[Vec<u8>]) -> Vec<u8> {
    element(id, &children.concat())
}

/// An element with an unsigned number, in as few bytes as it takes.
pub(crate) fn number(id: u32, value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = (value.leading_zeros() / 8).min(7) as usize;
    element(id, &bytes[zeros..])
}

/// An element with a text.
pub(crate) fn text(id: u32, value: &str) -> Vec<u8> {
    element(id, value.as_bytes())
}

/// The id and length of an element whose bytes follow.
pub(crate) fn header(id: u32, length: u64) -> Vec<u8> {
    let mut bytes = identifier(id);
    bytes.extend(size(length));
    bytes
}

/// An id: its first bits tell its length, so its zeros in front are no part of it.
pub(crate) fn identifier(id: u32) -> Vec<u8> {
    let zeros = (id.leading_zeros() / 8).min(3) as usize;
    id.to_be_bytes()[zeros..].to_vec()
}

/// A length in as few bytes as it takes. All ones would mean "unknown" (RFC 8794 section 6.2).
fn size(length: u64) -> Vec<u8> {
    let count = (1..8_usize).find(|count| length < (1 << (7 * count)) - 1).unwrap_or(8);
    sized(length, count)
}

/// A length in eight bytes, whatever it is.
pub(crate) fn size8(length: u64) -> Vec<u8> {
    sized(length, 8)
}

fn sized(length: u64, count: usize) -> Vec<u8> {
    let marked = length | 1 << (7 * count);
    marked.to_be_bytes()[8 - count..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_few_bytes_as_they_can() {
        assert_eq!(size(0), [0x80]);
        assert_eq!(size(126), [0xfe]);
        assert_eq!(size(127), [0x40, 127]);
        assert_eq!(size(16_382), [0x7f, 0xfe]);
        assert_eq!(size(16_383), [0x20, 0x3f, 0xff]);
        assert_eq!(size8(5), [1, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(size(1 << 55), size8(1 << 55));
    }

    #[test]
    fn elements_hold_what_they_are_given() {
        assert_eq!(number(0xd7, 1), [0xd7, 0x81, 1]);
        assert_eq!(number(0xd7, 0), [0xd7, 0x81, 0]);
        assert_eq!(number(0x2a_d7b1, 1_000_000), [0x2a, 0xd7, 0xb1, 0x83, 0x0f, 0x42, 0x40]);
        assert_eq!(text(0x4282, "webm"), [0x42, 0x82, 0x84, b'w', b'e', b'b', b'm']);
        assert_eq!(master(0xae, &[number(0xd7, 1)]), [0xae, 0x83, 0xd7, 0x81, 1]);
    }
}
