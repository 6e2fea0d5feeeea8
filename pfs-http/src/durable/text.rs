//! Text in pieces: what of it can be shown before the rest has come.

/// How many of these bytes end where a character ends, and a line end too: a carriage return may be half of one.
pub(super) fn complete(bytes: &[u8]) -> usize {
    let whole = match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        // Cut off in a character. What is wrong otherwise does not become right with more of it.
        Err(error) => {
            let rest = bytes.get(error.valid_up_to()..).unwrap_or_default();
            bytes.len().saturating_sub(unfinished(rest))
        }
    };
    let shown = bytes.get(..whole).unwrap_or_default();
    whole.saturating_sub(usize::from(shown.ends_with(b"\r")))
}

/// How many bytes at the end are the beginning of a character.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = bytes.utf8_chunks().last().map(|chunk| chunk.invalid()).unwrap_or_default();
    let cut_off = std::str::from_utf8(tail).is_err_and(|error| error.error_len().is_none());
    if cut_off { tail.len() } else { 0 }
}

/// Adds a payload to an event, a line of it after the other. A client takes one space off each line.
pub(super) fn put_data(out: &mut Vec<u8>, payload: &str) {
    let mut rest = payload;
    loop {
        let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
        let (line, after) = rest.split_at(end);
        out.extend_from_slice(if line.starts_with(' ') { b"data: " } else { b"data:" });
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
        match after.strip_prefix("\r\n").or_else(|| after.get(1..)) {
            Some(next) => rest = next,
            None => break,
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_shown_when_all_of_it_is_there() {
        let text = "aä€😀".as_bytes();
        let ends = [0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10];
        for (len, end) in ends.into_iter().enumerate() {
            assert_eq!(complete(&text[..len]), end, "{len}");
        }
    }

    #[test]
    fn what_is_no_text_is_not_waited_for() {
        assert_eq!(complete(b"\xff\xff"), 2);
        assert_eq!(complete(b"\xffa\xe2\x82"), 2);
        assert_eq!(complete(b"\xe2\x82a"), 3);
    }

    #[test]
    fn half_a_line_end_is_waited_for() {
        assert_eq!(complete(b"a\r"), 1);
        assert_eq!(complete(b"a\r\n"), 3);
    }

    #[test]
    fn every_line_is_data_whatever_ends_it() {
        let data = |payload: &str| {
            let mut out = Vec::new();
            put_data(&mut out, payload);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(data("a"), "data:a\n\n");
        assert_eq!(data(""), "data:\n\n");
        assert_eq!(data("a\r\nb\rc\n\nevent: x"), "data:a\ndata:b\ndata:c\ndata:\ndata:event: x\n\n");
        assert_eq!(data(" a\n b"), "data:  a\ndata:  b\n\n");
    }
}
