//! What a program writes, as text: decoded across reads, and the last of it kept.

use crate::domain::limits::PAYLOAD_BYTES_DEFAULT;

/// Bytes of each stream that stay in the output: 64 KiB. Enough to see how a program ended; the whole is in
/// the task's log.
pub(super) const CAPTURE_BYTES_MAX: usize = 64 * 1024;

// Two streams, of which every byte becomes `\u001b` in the worst case, fit into a default payload.
const _: () = assert!(2 * 6 * CAPTURE_BYTES_MAX + 4096 <= PAYLOAD_BYTES_DEFAULT);

/// The last [`CAPTURE_BYTES_MAX`] bytes of a text, and how long it was.
#[derive(Debug, Default)]
pub(super) struct Capture {
    tail: String,
    bytes: u64,
}

impl Capture {
    /// Appends `text`, which was `bytes` long before it was decoded.
    pub(super) fn push(&mut self, text: &str, bytes: usize) {
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        self.tail.push_str(text);
        if self.tail.len() > 2 * CAPTURE_BYTES_MAX {
            self.cut(); // Not at each push: moving the tail costs its length.
        }
    }

    /// The tail, and how many bytes the program wrote in all.
    pub(super) fn finish(mut self) -> (String, u64) {
        self.cut();
        (self.tail, self.bytes)
    }

    fn cut(&mut self) {
        let surplus = self.tail.len().saturating_sub(CAPTURE_BYTES_MAX);
        let surplus = self.tail.ceil_char_boundary(surplus);
        self.tail.drain(..surplus);
    }
}

/// Bytes that come in pieces, as text: a character that is cut by a read waits for its rest; what is not
/// UTF-8, and NUL, becomes U+FFFD.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    waiting: Vec<u8>,
}

impl Decoder {
    /// The text of what waited and `bytes`, without a character that is not complete yet.
    pub(super) fn decode(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.waiting);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && is_beginning(invalid) {
                self.waiting = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        if text.contains('\0') {
            text = text.replace('\0', "\u{fffd}");
        }
        text
    }

    /// What is left at the end: a replacement for a character that was never completed.
    pub(super) fn finish(self) -> &'static str {
        if self.waiting.is_empty() {
            ""
        } else {
            "\u{fffd}"
        }
    }
}

/// Whether more bytes could make `bytes` a character.
fn is_beginning(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_that_a_read_cuts_waits_for_its_rest() {
        let mut decoder = Decoder::default();
        let (first, rest) = "a€b".as_bytes().split_at(2);
        assert_eq!(decoder.decode(first), "a");
        assert_eq!(decoder.decode(rest), "€b");
        assert_eq!(decoder.decode(b"x\xffy\0z\xe2"), "x\u{fffd}y\u{fffd}z");
        assert_eq!(decoder.finish(), "\u{fffd}");
    }

    #[test]
    fn only_the_end_of_a_long_text_is_kept() {
        let mut capture = Capture::default();
        for _ in 0..100 {
            capture.push(&"é".repeat(4000), 8000);
        }
        capture.push("end", 3);
        let (tail, bytes) = capture.finish();
        assert_eq!(bytes, 800_003);
        assert!(tail.len() <= CAPTURE_BYTES_MAX && tail.len() > CAPTURE_BYTES_MAX - 4);
        assert!(tail.ends_with("éend"));
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_change_the_text(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cut in 1_usize..7,
        ) {
            let mut decoder = Decoder::default();
            let mut text: String = bytes.chunks(cut).map(|piece| decoder.decode(piece)).collect();
            text.push_str(decoder.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes).replace('\0', "\u{fffd}"));
        }
    }
}
