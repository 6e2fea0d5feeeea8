//! Server-sent events: encodes events, and splits text that arrives in pieces.

use std::{fmt::Display, io::Write, time::Duration};

/// Media type of server-sent events.
pub(crate) const MEDIA_TYPE: &str = "text/event-stream";

/// Interval of keep-alive events, so that no proxy takes an idle connection for dead.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Keep-alive comment, which clients ignore.
pub(crate) const PING: &[u8] = b":\n\n";

/// Text at the beginning of `bytes`, up to the last whole character and whole line end, like
/// [`complete`]. `None` if the bytes are not text.
pub(crate) fn complete_text(bytes: &[u8]) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_some() => return None,
        Err(error) => std::str::from_utf8(bytes.get(..error.valid_up_to())?).ok()?,
    };
    Some(text.strip_suffix('\r').unwrap_or(text))
}

/// Number of bytes up to the last whole character and whole line end. A carriage return at the end
/// may be half of a line end.
pub(crate) fn complete(bytes: &[u8]) -> usize {
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // The bytes end inside a character. Other invalid bytes do not become valid with
        // more bytes.
        Err(error) => {
            let rest = bytes.get(error.valid_up_to()..).unwrap_or_default();
            bytes.len().saturating_sub(unfinished(rest))
        }
    };
    let shown = bytes.get(..whole).unwrap_or_default();
    whole.saturating_sub(usize::from(shown.ends_with(b"\r")))
}

/// Number of bytes at the end that are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = bytes.utf8_chunks().last().map(|chunk| chunk.invalid()).unwrap_or_default();
    let cut_off = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
    if cut_off { tail.len() } else { 0 }
}

/// Spacing of a field. A client removes one space from the beginning of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// `data: text`, as people and their scripts expect.
    Spaced,
    /// `data:text`, as the tests of the Durable Streams protocol expect.
    Compact,
}

/// Appends an event. Without a name, clients see a `message` event.
pub(crate) fn put_event(
    out: &mut Vec<u8>,
    spacing: Spacing,
    name: Option<&str>,
    id: Option<&dyn Display>,
    payload: &str,
) {
    put_head(out, name, id);
    put_lines(out, spacing, payload, false);
    out.extend_from_slice(END);
}

/// End of an event whose last line has no line end.
pub(crate) const END: &[u8] = b"\n\n";

/// Appends the name and the id of an event, which precede its data.
pub(crate) fn put_head(out: &mut Vec<u8>, name: Option<&str>, id: Option<&dyn Display>) {
    // Writing to a vector cannot fail.
    if let Some(name) = name {
        let _ = writeln!(out, "event: {name}");
    }
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
}

/// Appends text as `data` lines. If a line has `begun`, the text continues that line. The last line
/// gets no line end.
pub(crate) fn put_lines(out: &mut Vec<u8>, spacing: Spacing, text: &str, mut begun: bool) {
    let mut rest = text;
    loop {
        // Each of the three line ends would end the field, so each line becomes its own field. A
        // client joins the lines with line feeds.
        let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        if !std::mem::take(&mut begun) {
            let compact = spacing == Spacing::Compact && !line.starts_with(' ');
            out.extend_from_slice(if compact { b"data:" } else { b"data: " });
        }
        out.extend_from_slice(line.as_bytes());
        match after.strip_prefix("\r\n").or_else(|| after.get(1..)) {
            Some(next) => rest = next,
            None => break,
        }
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_shown_once_it_is_complete() {
        let text = "aä€😀".as_bytes();
        let ends = [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10];
        for (len, end) in ends.into_iter().enumerate() {
            assert_eq!(complete(&text[..len]), end, "{len}");
            assert_eq!(complete_text(&text[..len]).map(str::len), Some(end), "{len}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_not_held_back() {
        assert_eq!(complete(b"\xff\xff"), 2);
        assert_eq!(complete(b"\xffa\xe2\x82"), 2);
        assert_eq!(complete(b"\xe2\x82a"), 3);
        for bytes in [&b"\xff\xff"[..], b"\xffa\xe2\x82", b"\xe2\x82a"] {
            assert_eq!(complete_text(bytes), None);
        }
    }

    #[test]
    fn half_a_line_end_is_held_back() {
        assert_eq!(complete(b"a\r"), 1);
        assert_eq!(complete(b"a\r\n"), 3);
        assert_eq!(complete_text(b"a\r"), Some("a"));
    }

    #[test]
    fn every_line_is_a_data_field_whatever_its_line_end() {
        let event = |spacing, payload: &str| {
            let mut out = Vec::new();
            put_event(&mut out, spacing, None, None, payload);
            String::from_utf8(out).unwrap()
        };
        for (payload, compact) in [
            ("a", "data:a\n\n"),
            ("", "data:\n\n"),
            ("a\r\nb\rc\n\nevent: x", "data:a\ndata:b\ndata:c\ndata:\ndata:event: x\n\n"),
        ] {
            assert_eq!(event(Spacing::Compact, payload), compact);
            assert_eq!(event(Spacing::Spaced, payload), compact.replace("data:", "data: "));
        }
        for spacing in [Spacing::Compact, Spacing::Spaced] {
            assert_eq!(event(spacing, " a\n b"), "data:  a\ndata:  b\n\n");
        }
    }

    #[test]
    fn a_name_and_an_id_come_before_the_data() {
        let mut out = Vec::new();
        put_event(&mut out, Spacing::Spaced, Some("gap"), Some(&"6418-2a:7"), "{}");
        assert_eq!(out, b"event: gap\nid: 6418-2a:7\ndata: {}\n\n");
    }
}
